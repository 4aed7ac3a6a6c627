"""`queuectl wait` and `enqueue --wait` return the exit code of the command, or 125 with a reason if there is none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine, OnWait, interrupt
from factories import statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.outcome import Outcome, Report
from queuectl.service import commands
from queuectl.store.driver.notifier import Subscription


def lost_too_often(actor: Actor, id: str) -> None:
    while actor.job(id).state != "dead":
        actor.take(id)
        actor.ends(id, "lost", error="the host went away")


ENDS: list[tuple[str, Callable[[Actor, str], Any], int, str]] = [
    ("exit 0", lambda actor, id: actor.runs(id), 0, ""),
    ("exit 3", lambda actor, id: actor.runs(id, exit_code=3), 3, "ended with exit code 3"),
    ("exit 255", lambda actor, id: actor.runs(id, exit_code=255), 255, "ended with exit code 255"),
    ("signal 9", lambda actor, id: (actor.take(id), actor.ends(id, "signalled", signal=9)), 137, "killed by signal 9"),
    ("signal 15", lambda actor, id: (actor.take(id), actor.ends(id, "signalled", signal=15)), 143, "signal 15"),
    ("time limit", lambda actor, id: (actor.take(id), actor.ends(id, "timed_out", signal=15)), 124, "its timeout"),
    ("could not start", lambda actor, id: (actor.take(id), actor.ends(id, "spawn_error", error="no such program")),
     125, "no such program"),
    ("lost", lost_too_often, 125, "crash loop"),
    ("cancelled", lambda actor, id: commands.cancel(actor.store, [id], by="ada", reason="wrong"), 125,
     "was cancelled (cancelled by ada: wrong)"),
    ("cancelled while running",
     lambda actor, id: (actor.take(id), commands.cancel(actor.store, [id], by="ada"), actor.ends(id, "cancelled")),
     125, "was cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "code", "said"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_the_exit_code_of_one_job_is_returned(
    queuectl: CommandLine, actor: Actor, act: Callable[[Actor, str], Any], code: int, said: str
) -> None:
    id = queuectl.enqueue("--retries", "0", "x")
    act(actor, id)
    assert queuectl("wait", id, code=code) == ""
    assert said in queuectl.err
    assert queuectl.err.count("\n") == (1 if said else 0)


class TestOne:
    def test_the_document_contains_the_job(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"))
        document = queuectl.json("wait", "a")
        assert [job["id"] for job in document["jobs"]] == ["a"]

    @pytest.mark.parametrize("word", ["1", "@last"])
    def test_a_job_is_named_by_number_and_as_the_last(
        self, queuectl: CommandLine, actor: Actor, word: str
    ) -> None:
        actor.runs(queuectl.enqueue("--id", "job-a", "x"), exit_code=0)
        queuectl("wait", word)

    def test_an_unknown_job_gives_exit_code_125_and_a_document_under_json(
        self, queuectl: CommandLine
    ) -> None:
        document = queuectl.json("wait", "nobody", code=125)
        assert document["error"]["code"] == "not_found"
        assert "there is no job 'nobody'" in queuectl.err

    def test_a_timeout_gives_exit_code_125(self, queuectl: CommandLine) -> None:
        id = queuectl.enqueue("x")
        queuectl("wait", id, "--timeout", "0s", code=125)
        assert "job 1 is still pending after 0s" in queuectl.err

    def test_a_job_deleted_meanwhile_gives_exit_code_125(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id = queuectl.enqueue("x")

        def end_and_delete(_subscription: Subscription, _timeout: float) -> bool:
            actor.runs(id)
            commands.delete(actor.store, [id])
            return True

        monkeypatch.setattr(Subscription, "wait", end_and_delete)
        queuectl("wait", id, code=125)
        assert "was deleted" in queuectl.err

    def test_wait_continues_during_a_retry(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id = queuectl.enqueue("x")
        codes = iter((7, 0))
        monkeypatch.setattr(
            Subscription, "wait", lambda _subscription, _timeout: bool(actor.runs(id, exit_code=next(codes)))
        )
        queuectl("wait", id)

    def test_an_interrupt_gives_exit_code_130_with_the_command_to_cancel(
        self, queuectl: CommandLine, on_wait: OnWait
    ) -> None:
        id = queuectl.enqueue("x")
        on_wait(interrupt)
        queuectl("wait", id, code=130)
        assert "queuectl cancel 1\n" in queuectl.err


class TestSeveral:
    @pytest.fixture(autouse=True)
    def three(self, queuectl: CommandLine, actor: Actor) -> None:
        """good: completed; bad: dead; slow: pending. All of batch n."""
        for id in ("good", "bad", "slow"):
            queuectl("enqueue", "--id", id, "--retries", "0", "--batch", "n", "x")
        actor.runs("good")
        actor.runs("bad", exit_code=9)

    def test_the_exit_code_is_0_if_all_completed(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs("slow")
        assert queuectl("wait", "good", "slow") == "good completed\nslow completed\n"

    def test_the_exit_code_is_1_if_one_of_several_failed(self, queuectl: CommandLine) -> None:
        assert queuectl("wait", "good", "bad", code=1) == "good completed\nbad dead\n"

    def test_the_exit_code_is_1_if_one_of_several_has_not_ended(self, queuectl: CommandLine) -> None:
        queuectl("wait", "good", "slow", "--timeout", "0s", code=1)
        assert "1 of 2 jobs have not ended" in queuectl.err

    @pytest.mark.parametrize(("first", "code"), [("good", 0), ("bad", 1)])
    def test_with_any_wait_returns_at_the_first_end(
        self, queuectl: CommandLine, first: str, code: int
    ) -> None:
        assert queuectl("wait", "--any", "slow", first, code=code).split()[0] == first

    def test_a_job_named_twice_counts_as_one(self, queuectl: CommandLine) -> None:
        queuectl("wait", "bad", "bad", code=9)

    def test_ids_are_read_from_stdin(self, queuectl: CommandLine) -> None:
        queuectl("wait", "-", input="good\nbad\n", code=1)
        queuectl("wait", "-", input="bad\n", code=9)

    def test_under_json_all_jobs_are_shown_in_their_states(self, queuectl: CommandLine) -> None:
        document = json.loads(queuectl("wait", "good", "slow", "--timeout", "0s", "--json", code=1))
        assert [(job["id"], job["state"]) for job in document["jobs"]] == [
            ("good", "completed"),
            ("slow", "pending"),
        ]

    def test_jobs_of_a_batch_that_ended_before_are_counted(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs("slow")
        queuectl("wait", "--batch", "n", code=1)
        queuectl("retry", "bad")
        actor.runs("bad")
        queuectl("wait", "--batch", "n")

    def test_an_unknown_batch_is_reported(self, queuectl: CommandLine) -> None:
        queuectl("wait", "--batch", "typo", code=125)
        assert "no job in batch 'typo'" in queuectl.err

    def test_with_all_only_unfinished_jobs_are_waited_for(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("wait", "--all", "--timeout", "0s", code=1)
        actor.runs("slow")
        queuectl("wait", "--all")

    @pytest.mark.parametrize(
        "words", [("good", "--all"), ("good", "--batch", "n"), ("--all", "--batch", "n")]
    )
    def test_two_selections_are_refused(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl("wait", *words, code=2)


class TestEnqueueAndWait:
    @pytest.mark.parametrize("code", [0, 3])
    def test_the_id_is_printed_and_the_exit_code_is_returned(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        monkeypatch.setattr(
            Subscription,
            "wait",
            lambda _subscription, _timeout: bool(actor.runs("a", b"out\n", exit_code=code)),
        )
        assert queuectl("enqueue", "--wait", "--retries", "0", "--id", "a", "x", code=code) == "a\n"

    def test_follow_also_prints_the_output(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            Subscription, "wait", lambda _subscription, _timeout: bool(actor.runs("a", b"out\n"))
        )
        assert queuectl("enqueue", "--follow", "--id", "a", "x") == "a\nout\n"

    def test_under_json_enqueue_and_wait_print_one_document(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Subscription, "wait", lambda _subscription, _timeout: bool(actor.runs("a")))
        document = queuectl.json("enqueue", "--wait", "--id", "a", "x")
        assert [job["state"] for job in document["jobs"]] == ["completed"]


def test_a_dead_job_that_never_ran_has_no_exit_code(queuectl: CommandLine, actor: Actor) -> None:
    id = queuectl.enqueue("x")
    job = actor.take(id)
    report = Report(
        outcome=Outcome(kind="spawn_error", error="no such directory"), finished_at=actor.store.now()
    )
    while job.state != "dead":
        ended = lifecycle.finish(actor.job(id), report, now=actor.store.now(), random_number=0.5)
        assert statuses(actor.store.save([ended])) == ["accepted"]
        job = actor.job(id)
        if job.state != "dead":
            actor.take(id)
    queuectl("wait", id, code=125)
    assert "has no exit code: no such directory" in queuectl.err


class TestInsideAJob:
    """A command that would wait for its own job, or for the slot of its own job, is refused with the reason."""

    @pytest.fixture(autouse=True)
    def own(self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> Job:
        """The job inside which the commands of a test run, on a worker of one slot."""
        queuectl("enqueue", "--id", "own", "--batch", "b", "true")
        queuectl("enqueue", "--id", "child", "--after", "own", "true")
        queuectl("enqueue", "--id", "grandchild", "--after", "child", "true")
        job = actor.take("own", "id-w")
        actor.enters("w")
        monkeypatch.setenv("QUEUECTL_JOB_ID", "own")
        monkeypatch.setenv("QUEUECTL_ATTEMPT_ID", job.attempt_id or "")
        return job

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("wait", "own"), "runs inside job own, which would wait for itself"),
            (("wait", "--all"), "which would wait for itself"),
            (("wait", "--batch", "b"), "which would wait for itself"),
            (("wait", "child"), "a job that it would wait for waits for that job"),
            (("wait", "grandchild"), "a job that it would wait for waits for that job"),
            (("logs", "-f", "own"), "which would wait for itself"),
            (("enqueue", "--wait", "true"), "occupies the only slot that serves queue default"),
            (("enqueue", "--follow", "true"), "occupies the only slot that serves queue default"),
            (("enqueue", "--wait", "--after", "own", "true"), "which would wait for itself"),
        ],
    )
    def test_waiting_for_the_own_job_is_refused(
        self, queuectl: CommandLine, words: tuple[str, ...], said: str
    ) -> None:
        before = queuectl.ids()
        assert queuectl(*words, code=4) == ""
        assert said in queuectl.err
        assert queuectl.ids() == before

    def test_waiting_for_a_job_that_needs_the_own_slot_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "other", "true")
        queuectl("wait", "other", code=4)
        assert "occupies the only slot" in queuectl.err

    def test_waiting_with_a_second_slot_is_allowed(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w", count=2)
        queuectl("enqueue", "--id", "other", "true")
        queuectl("wait", "other", "--timeout", "0s", code=125)
        assert "job other is still pending" in queuectl.err

    def test_waiting_for_a_job_of_the_own_full_queue_is_refused(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.enters("w", count=2)
        queuectl("queue", "limit", "default", "1")
        queuectl("enqueue", "--wait", "true", code=4)
        assert "is the one job that queue default may run at once" in queuectl.err

    def test_waiting_for_an_ended_job_is_allowed(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "done", "true")
        actor.runs("done")
        queuectl("wait", "done")

    def test_with_any_the_own_job_and_an_ended_job_are_allowed(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        queuectl("enqueue", "--id", "done", "true")
        actor.runs("done")
        queuectl("wait", "own", "done", "--any")

    def test_the_same_id_in_another_store_is_another_job(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_ATTEMPT_ID", "of another store")
        queuectl("wait", "own", "--timeout", "0s", code=125)
