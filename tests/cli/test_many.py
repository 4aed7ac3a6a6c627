"""Operations on many jobs: steps, confirmation, summaries, a bounded number of printed refusals, and Ctrl+C."""

import json
import re
import signal
from typing import Any

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import SQLITE, direct
from queuectl.service import commands, paging
from queuectl.store.sqlite import SqliteStore


@pytest.fixture
def many(queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty jobs, and steps of ten."""
    monkeypatch.setattr(paging, "BATCH", 10)
    queuectl(
        "enqueue", "-", input="".join(f'{{"id":"j{n}","command":"x","max_retries":0}}\n' for n in range(30))
    )


def counts(queuectl: CommandLine) -> dict[str, int]:
    found = queuectl.json("status")["jobs"]
    return {state: count for state, count in found.items() if count and state != "total"}


@pytest.mark.usefixtures("many")
class TestOnATerminal:
    def test_a_filter_prints_a_summary_and_no_line_per_job(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.take("j0")
        text = queuectl.on_terminal("cancel", "--all", "--yes", NO_COLOR="1")
        text = text.rpartition("\r\x1b[K")[2]  # a slow run shows its progress before, and erases it
        assert text == "29 cancelled, 1 running, ended by their workers now\n"

    def test_verbose_prints_each_job(self, queuectl: CommandLine) -> None:
        text = queuectl.on_terminal("cancel", "--all", "--yes", "-v", NO_COLOR="1")
        assert text.splitlines()[:2] == ["j0 cancelled", "j1 cancelled"]
        assert text.endswith("\n30 cancelled\n")

    def test_a_few_named_jobs_have_one_line_each(self, queuectl: CommandLine) -> None:
        assert queuectl.on_terminal("hold", "j0", "2", NO_COLOR="1") == "j0 held\nj1 held\n"

    def test_generated_ids_are_printed_as_numbers(self, queuectl: CommandLine) -> None:
        queuectl.enqueue("x")
        assert queuectl.on_terminal("hold", "@last", NO_COLOR="1") == "31 held\n"

    def test_the_number_of_printed_refusals_is_limited(self, queuectl: CommandLine) -> None:
        queuectl("cancel", "--all", "--yes")
        ids = [f"j{n}" for n in range(30)]
        text = queuectl.on_terminal("hold", *ids, NO_COLOR="1", code=4)
        lines = re.sub(
            r"\r\x1b\[K(hold: \d+ of \d+)?", "", text
        ).splitlines()  # the live line of a slow command
        assert lines[0].startswith("queuectl: job j0 is cancelled: only jobs that wait can be held")
        assert lines[5:] == ["queuectl: and 25 more (--verbose shows them)", "30 refused"]


@pytest.mark.usefixtures("many")
class TestConsent:
    """The user is asked with the number of jobs, and without a yes nothing is changed."""

    def test_the_answer_no_changes_nothing_and_yes_changes_the_jobs(self, queuectl: CommandLine) -> None:
        assert "cancel 30 jobs? [y/N]" in queuectl.on_terminal("cancel", "--all", typed=b"n\n", code=2)
        assert counts(queuectl) == {"pending": 30}
        queuectl("cancel", "--all", "--yes")
        for words in (("purge", "--older-than", "0s"), ("delete", *(f"j{n}" for n in range(30)))):
            text = queuectl.on_terminal(*words, typed=b"\n", code=2)
            assert "delete 30 jobs? [y/N]" in text
            assert "not confirmed, nothing was changed" in text
        assert counts(queuectl) == {"cancelled": 30}
        assert "purged 30" in queuectl.on_terminal("purge", "--older-than", "0s", typed=b"y\n")
        assert counts(queuectl) == {}

    def test_an_empty_selection_asks_no_question(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "purge") == "purged 0\n"


@pytest.mark.usefixtures("many")
class TestInAPipe:
    def test_in_a_pipe_every_job_has_its_line(self, queuectl: CommandLine) -> None:
        assert queuectl.lines("cancel", "--all", "--yes") == [f"j{n} cancelled" for n in range(30)]
        assert queuectl.err == ""

    def test_a_filtered_job_that_ends_meanwhile_is_not_a_refusal(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch, door: str
    ) -> None:
        """A store reads the jobs step by step, and a client reads a whole page first: it finds both ended."""
        unchanged = 1 if door == "sqlite" else 2
        cancel = commands.cancel

        def late(store: object, ids: list[str], **words: object) -> object:
            if "j0" in ids:
                actor.runs("j0")
                actor.runs("j28")
            return cancel(store, ids, **words)  # type: ignore[arg-type]

        monkeypatch.setattr(commands, "cancel", late)
        document = queuectl.json("cancel", "--all", "--yes")
        assert [job["refused"] for job in document["jobs"]] == [None] * (28 + unchanged)
        totals = {key: document[key] for key in ("matched", "changed", "unchanged", "refused_count")}
        assert totals == {
            "matched": 28 + unchanged,
            "changed": 28,
            "unchanged": unchanged,
            "refused_count": 0,
        }
        assert counts(queuectl) == {"cancelled": 28, "completed": 2}

    def test_a_named_job_that_has_ended_is_refused(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs("j3")
        queuectl("cancel", "j3", code=4)
        assert "it has ended already" in queuectl.err


@pytest.mark.usefixtures("many")
class TestInterrupted:
    def press(self, monkeypatch: pytest.MonkeyPatch, verb: str, on_call: int = 2) -> None:
        """Ctrl+C in the middle of a call to the store."""
        real, calls = getattr(SqliteStore, verb), []

        def call(store: SqliteStore, *words: object, **options: object) -> object:
            calls.append(verb)
            if len(calls) == on_call:
                signal.raise_signal(signal.SIGINT)
            return real(store, *words, **options)

        monkeypatch.setattr(SqliteStore, verb, call)

    def test_the_step_is_finished_and_the_changed_jobs_are_printed(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.press(monkeypatch, "save")
        before = signal.getsignal(signal.SIGINT)
        assert len(queuectl.lines("cancel", "--all", "--yes", code=130)) == 20
        assert signal.getsignal(signal.SIGINT) is before
        assert (
            queuectl.err == "queuectl: interrupted: 20 cancelled; the other jobs are unchanged, "
            "repeat the command to continue, or add --resume 20\n"
        )
        assert counts(queuectl) == {"pending": 10, "cancelled": 20}
        queuectl("cancel", "--all", "--yes")
        assert counts(queuectl) == {"cancelled": 30}

    def test_the_document_is_complete_after_an_interruption(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.press(monkeypatch, "save")
        document = queuectl.json("cancel", "--all", "--yes", code=130)
        assert (len(document["jobs"]), document["interrupted"], document["resume"]) == (20, True, 20)
        document = queuectl.json("cancel", "--all", "--yes", "--resume", "20")
        assert [job["id"] for job in document["jobs"]] == [f"j{n}" for n in range(20, 30)]
        assert document["resume"] is None

    def test_an_interrupted_purge_prints_the_number_of_deleted_jobs(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queuectl("cancel", "--all", "--yes")
        self.press(monkeypatch, "purge")
        assert queuectl("purge", "--older-than", "0s", "--yes", code=130) == "purged 20\n"
        assert "the other jobs are unchanged" in queuectl.err
        assert counts(queuectl) == {"cancelled": 10}

    @direct(SQLITE)
    def test_a_second_interrupt_ends_the_command_at_once(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = SqliteStore.save

        def call(store: SqliteStore, *words: object) -> object:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
            return real(store, *words)  # type: ignore[arg-type]

        monkeypatch.setattr(SqliteStore, "save", call)
        queuectl("cancel", "--all", "--yes", code=130)
        assert counts(queuectl) == {"pending": 30}


@pytest.mark.usefixtures("many")
class TestTakenKeys:
    def test_the_job_with_the_key_is_named_and_other_jobs_are_retried(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        for id in ("old", "older"):
            actor.kills(queuectl.enqueue("--id", id, "--unique", "k", "--retries", "0", "x"))
        actor.kills("j3")
        holder = queuectl.enqueue("--unique", "k", "x")
        number = queuectl.job(holder)["number"]
        assert queuectl.lines("dlq", "retry", "--all") == ["j3 pending"]
        assert f"unique key 'k' of job old is taken by job {number} (pending)" in queuectl.err
        assert f"unique key 'k' of job older is taken by job {number} (pending)" in queuectl.err
        assert queuectl.on_terminal("dlq", "retry", "--all", code=4).endswith("2 refused\n")


@pytest.mark.usefixtures("many")
class TestRetryOfAll:
    def test_children_wait_for_parents_that_are_retried_later(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.runs("j0")
        queuectl("enqueue", "--id", "deploy", "--after", "j0", "--retries", "0", "x")
        queuectl("retry", "j0", "--force")
        for id in ("deploy", *(f"j{n}" for n in range(30))):
            actor.kills(id)
        assert len(queuectl.lines("dlq", "retry", "--all")) == 31
        assert [queuectl.job(id)["state"] for id in ("j0", "deploy")] == ["pending", "blocked"]

    def test_named_children_wait_for_parents_that_are_retried_later(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.runs("j0")
        queuectl("enqueue", "--id", "deploy", "--after", "j0", "--retries", "0", "x")
        queuectl("retry", "j0", "--force")
        ids = ["deploy", *(f"j{n}" for n in reversed(range(30)))]
        for id in ids:
            actor.kills(id)
        assert len(queuectl.lines("retry", *ids)) == 31
        assert [queuectl.job(id)["state"] for id in ("j0", "deploy")] == ["pending", "blocked"]

    def test_a_job_that_dies_again_meanwhile_is_not_retried_twice(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in (1, 25):
            actor.kills(f"j{n}")
        save = SqliteStore.save

        def busy(store: SqliteStore, jobs: list[Any], *events: Any) -> object:
            monkeypatch.setattr(SqliteStore, "save", save)
            actor.kills("j5")
            return save(store, jobs, *events)

        monkeypatch.setattr(SqliteStore, "save", busy)
        assert set(queuectl.lines("dlq", "retry", "--all")) == {"j25 pending", "j1 pending"}
        assert queuectl.job("j5")["state"] == "dead"


def test_releasing_a_child_of_a_failed_parent_prints_the_reason(queuectl: CommandLine, actor: Actor) -> None:
    queuectl("enqueue", "--id", "p", "--retries", "0", "x")
    queuectl("enqueue", "--id", "c", "--after", "p", "--hold", "x")
    actor.kills("p")
    assert queuectl("release", "c", code=4) == ""
    assert queuectl.err == (
        "queuectl: job c waits for p, which ended as dead: it stays held "
        "(queuectl release --anyway c runs it without its parents)\n"
    )
    assert queuectl("release", "--anyway", "c") == "c pending\n"


def test_retrying_a_parent_prints_the_restored_children(queuectl: CommandLine, actor: Actor) -> None:
    queuectl("enqueue", "--id", "p", "--retries", "0", "x")
    queuectl("enqueue", "--id", "c", "--after", "p", "x")
    queuectl("cancel", "p")
    assert "parent" in queuectl.job("c")["cause"]
    assert "(because of a parent)" in queuectl("show", "c")
    assert queuectl.lines("retry", "p") == ["p pending", "c blocked"]
    document = json.loads(queuectl("show", "c", "--json"))
    assert (document["job"]["state"], document["job"]["cause"]) == ("blocked", None)
