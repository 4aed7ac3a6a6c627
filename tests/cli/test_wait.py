"""`queuectl wait` and `enqueue --wait`: the command's own exit code, and 125 with a reason where there is none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
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
def test_the_exit_code_of_one_job(
    queuectl: CommandLine, actor: Actor, act: Callable[[Actor, str], Any], code: int, said: str
) -> None:
    id = queuectl.enqueue("--retries", "0", "x")
    act(actor, id)
    assert queuectl("wait", id, code=code) == ""
    assert said in queuectl.err
    assert queuectl.err.count("\n") == (1 if said else 0)


class TestOne:
    def test_its_document_is_that_of_the_job(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"))
        document = queuectl.json("wait", "a")
        assert [job["id"] for job in document["jobs"]] == ["a"]

    @pytest.mark.parametrize("word", ["1", "@last"])
    def test_it_is_meant_by_number_and_last(self, queuectl: CommandLine, actor: Actor, word: str) -> None:
        actor.runs(queuectl.enqueue("--id", "job-a", "x"), exit_code=0)
        queuectl("wait", word)

    def test_an_unknown_one_is_125_and_a_document_under_json(self, queuectl: CommandLine) -> None:
        document = queuectl.json("wait", "nobody", code=125)
        assert document["error"]["code"] == "not_found"
        assert "there is no job 'nobody'" in queuectl.err

    def test_the_end_of_the_patience_is_125(self, queuectl: CommandLine) -> None:
        id = queuectl.enqueue("x")
        queuectl("wait", id, "--timeout", "0s", code=125)
        assert "job 1 is still pending after 0s" in queuectl.err

    def test_one_that_is_deleted_meanwhile_is_125(
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

    def test_a_retry_is_waited_for(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id = queuectl.enqueue("x")
        codes = iter((7, 0))
        monkeypatch.setattr(
            Subscription, "wait", lambda _subscription, _timeout: bool(actor.runs(id, exit_code=next(codes)))
        )
        queuectl("wait", id)

    def test_an_interruption_is_130_and_says_that_the_job_goes_on(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id = queuectl.enqueue("x")

        def interrupt(_subscription: Subscription, _timeout: float) -> bool:
            raise KeyboardInterrupt

        monkeypatch.setattr(Subscription, "wait", interrupt)
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

    def test_zero_if_all_completed(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs("slow")
        assert queuectl("wait", "good", "slow") == "good completed\nslow completed\n"

    def test_one_if_one_failed_whatever_its_code(self, queuectl: CommandLine) -> None:
        assert queuectl("wait", "good", "bad", code=1) == "good completed\nbad dead\n"

    def test_one_if_one_has_not_ended_in_time(self, queuectl: CommandLine) -> None:
        queuectl("wait", "good", "slow", "--timeout", "0s", code=1)
        assert "1 of 2 jobs have not ended" in queuectl.err

    @pytest.mark.parametrize(("first", "code"), [("good", 0), ("bad", 1)])
    def test_any_returns_with_the_first(self, queuectl: CommandLine, first: str, code: int) -> None:
        assert queuectl("wait", "--any", "slow", first, code=code).split()[0] == first

    def test_the_same_job_twice_is_one(self, queuectl: CommandLine) -> None:
        queuectl("wait", "bad", "bad", code=9)

    def test_ids_come_from_stdin(self, queuectl: CommandLine) -> None:
        queuectl("wait", "-", input="good\nbad\n", code=1)
        queuectl("wait", "-", input="bad\n", code=9)

    def test_under_json_all_are_shown_as_they_are(self, queuectl: CommandLine) -> None:
        document = json.loads(queuectl("wait", "good", "slow", "--timeout", "0s", "--json", code=1))
        assert [(job["id"], job["state"]) for job in document["jobs"]] == [
            ("good", "completed"),
            ("slow", "pending"),
        ]

    def test_a_batch_is_judged_whole_though_some_of_it_ended_before(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.runs("slow")
        queuectl("wait", "--batch", "n", code=1)
        queuectl("retry", "bad")
        actor.runs("bad")
        queuectl("wait", "--batch", "n")

    def test_a_batch_that_is_not_there_is_said(self, queuectl: CommandLine) -> None:
        queuectl("wait", "--batch", "typo", code=125)
        assert "no job in batch 'typo'" in queuectl.err

    def test_all_are_those_that_have_not_ended(self, queuectl: CommandLine, actor: Actor) -> None:
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
    def test_the_id_is_printed_and_the_code_passed_on(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        monkeypatch.setattr(
            Subscription,
            "wait",
            lambda _subscription, _timeout: bool(actor.runs("a", b"out\n", exit_code=code)),
        )
        assert queuectl("enqueue", "--wait", "--retries", "0", "--id", "a", "x", code=code) == "a\n"

    def test_follow_prints_the_output_too(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            Subscription, "wait", lambda _subscription, _timeout: bool(actor.runs("a", b"out\n"))
        )
        assert queuectl("enqueue", "--follow", "--id", "a", "x") == "a\nout\n"

    def test_under_json_the_answer_is_one_document(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Subscription, "wait", lambda _subscription, _timeout: bool(actor.runs("a")))
        document = queuectl.json("enqueue", "--wait", "--id", "a", "x")
        assert [job["state"] for job in document["jobs"]] == ["completed"]


def test_a_job_that_never_ran_and_died_has_no_code(queuectl: CommandLine, actor: Actor) -> None:
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
    """A command that would wait for its own job, or for the slot that this keeps, is refused with the reason."""

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
    def test_it_is_refused(self, queuectl: CommandLine, words: tuple[str, ...], said: str) -> None:
        before = queuectl.ids()
        assert queuectl(*words, code=4) == ""
        assert said in queuectl.err
        assert queuectl.ids() == before

    def test_another_job_that_only_its_slot_could_run(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "other", "true")
        queuectl("wait", "other", code=4)
        assert "occupies the only slot" in queuectl.err

    def test_with_another_slot_it_waits(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w", count=2)
        queuectl("enqueue", "--id", "other", "true")
        queuectl("wait", "other", "--timeout", "0s", code=125)
        assert "job other is still pending" in queuectl.err

    def test_a_queue_whose_one_place_it_has(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w", count=2)
        queuectl("queue", "limit", "default", "1")
        queuectl("enqueue", "--wait", "true", code=4)
        assert "is the one job that queue default may run at once" in queuectl.err

    def test_what_has_ended_is_no_waiting(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "done", "true")
        actor.runs("done")
        queuectl("wait", "done")

    def test_any_other_end_is_enough(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "done", "true")
        actor.runs("done")
        queuectl("wait", "own", "done", "--any")

    def test_the_same_id_in_another_store_is_another_job(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_ATTEMPT_ID", "of another store")
        queuectl("wait", "own", "--timeout", "0s", code=125)
