"""`queuectl cancel`, `retry`, `hold`, `release`, `edit`, `delete`, `purge`: which jobs they change, and what they
print."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine


class TestAnswer:
    COMMANDS = (
        (("cancel", "a"), "a cancelled\n"),
        (("hold", "a"), "a held\n"),
        (("edit", "a", "--priority", "3"), "a pending: priority 0 → 3\n"),
    )

    @pytest.mark.parametrize(("words", "text"), COMMANDS, ids=[words[0] for words, _ in COMMANDS])
    def test_each_job_gets_one_line(self, queuectl: CommandLine, words: tuple[str, ...], text: str) -> None:
        queuectl("enqueue", "--id", "a", "x")
        assert queuectl(*words) == text

    @pytest.mark.parametrize(
        "words", [words for words, _ in COMMANDS], ids=[words[0] for words, _ in COMMANDS]
    )
    def test_the_document_contains_each_job(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl("enqueue", "--id", "a", "x")
        document = queuectl.json(*words)
        assert document.keys() == {"schema", "jobs"}
        [job] = document["jobs"]
        assert job.keys() - {"changes"} == {"id", "number", "state", "refused"}
        assert job.get("changes", {}) == ({"priority": {"from": 0, "to": 3}} if words[0] == "edit" else {})
        assert (job["id"], job["number"], job["refused"]) == ("a", 1, None)

    def test_refusals_are_printed_on_stderr_and_other_jobs_are_changed(self, queuectl: CommandLine) -> None:
        for id in ("a", "b"):
            queuectl("enqueue", "--id", id, "x")
        queuectl("cancel", "a")
        assert queuectl("hold", "a", "b", code=4) == "b held\n"
        assert "job a is cancelled: only jobs that wait can be held" in queuectl.err

    def test_under_json_the_document_contains_the_refusal(self, queuectl: CommandLine) -> None:
        for id in ("a", "b"):
            queuectl("enqueue", "--id", id, "x")
        queuectl("cancel", "a")
        document = queuectl.json("hold", "a", "b", code=4)
        assert document["error"]["code"] == "conflict"
        assert [(job["id"], job["refused"] is None) for job in document["jobs"]] == [
            ("a", False),
            ("b", True),
        ]

    def test_answers_are_printed_in_the_order_of_the_arguments(self, queuectl: CommandLine) -> None:
        for id in "abc":
            queuectl("enqueue", "--id", id, "x")
        assert queuectl("hold", "c", "1", "b") == "c held\na held\nb held\n"


class TestCancel:
    def test_the_user_and_the_reason_are_stored(self, queuectl: CommandLine, door: str) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("cancel", "a", "--reason", "wrong branch")
        request = queuectl.job("a")["cancel_requested"]
        assert request["reason"] == "wrong branch"
        assert ("@" if door == "sqlite" else "local:tester") in request["by"]

    def test_cancelling_a_running_job_prints_that_its_worker_ends_it(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.take(queuectl.enqueue("--id", "a", "x"))
        assert queuectl("cancel", "a") == "a is running; its worker ends it now\n"
        assert queuectl.job("a")["state"] == "processing"

    def test_a_second_cancel_succeeds_and_an_ended_job_is_a_conflict(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("cancel", "a")
        assert queuectl("cancel", "a") == "a cancelled\n"
        actor.runs(queuectl.enqueue("--id", "b", "x"))
        queuectl("cancel", "b", code=4)
        assert "it has ended already" in queuectl.err

    def test_a_job_that_waits_for_its_retry_is_cancelled(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"), exit_code=1)
        assert queuectl("cancel", "a") == "a cancelled\n"


class TestSelections:
    @pytest.fixture(autouse=True)
    def some(self, queuectl: CommandLine, actor: Actor) -> None:
        """m: mail; n: batch n; h: held; f: failed; all waiting. done, dead: ended."""
        queuectl("enqueue", "--id", "m", "--queue", "mail", "x")
        queuectl("enqueue", "--id", "n", "--batch", "n", "x")
        queuectl("enqueue", "--id", "h", "--hold", "x")
        for id, batch in (("f", "n"), ("done", "n"), ("dead", "other")):
            queuectl("enqueue", "--id", id, "--batch", batch, "x")
        actor.runs("f", exit_code=1)
        actor.runs("done")
        actor.kills("dead")

    def cancelled(self, queuectl: CommandLine) -> set[str]:
        return {job["id"] for job in queuectl.json("list", "--state", "cancelled")["jobs"]}

    @pytest.mark.parametrize(
        ("words", "ids"),
        [
            (("--all",), {"m", "n", "h", "f"}),
            (("--queue", "mail"), {"m"}),
            (("--batch", "n"), {"n", "f"}),
            (("--state", "held"), {"h"}),
            (("--state", "pending,failed"), {"m", "n", "f"}),
            (("--state", "pending", "--queue", "default"), {"n"}),
            (("--state", "pending,dead", "--batch", "n"), {"n"}),
        ],
    )
    def test_with_yes_exactly_the_selected_jobs_are_cancelled(
        self, queuectl: CommandLine, words: tuple[str, ...], ids: set[str]
    ) -> None:
        queuectl("cancel", *words, "--yes")
        assert self.cancelled(queuectl) == ids

    @pytest.mark.parametrize("states", ["dead", "completed", "cancelled,dead"])
    def test_a_selection_of_ended_states_is_refused(self, queuectl: CommandLine, states: str) -> None:
        queuectl("cancel", "--state", states, "--yes", code=2)
        assert "have ended" in queuectl.err
        assert self.cancelled(queuectl) == set()

    def test_without_yes_and_without_a_terminal_no_job_is_changed(self, queuectl: CommandLine) -> None:
        queuectl("cancel", "--all", code=2)
        assert "this command would cancel 4 jobs (add --yes to confirm)" in queuectl.err
        assert self.cancelled(queuectl) == set()

    def test_an_empty_selection_is_reported_without_a_question(self, queuectl: CommandLine) -> None:
        assert queuectl("cancel", "--batch", "typo") == ""
        assert "no job" in queuectl.err

    @pytest.mark.parametrize("words", [("m", "--all"), ("m", "--queue", "mail"), ("m", "--batch", "n")])
    def test_names_and_a_selection_exclude_each_other(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("cancel", *words, "--yes", code=2)
        assert self.cancelled(queuectl) == set()

    def test_twenty_thousand_jobs_are_cancelled_at_once(
        self, queuectl: CommandLine, door: str, thorough: bool
    ) -> None:
        count = 20_000 if door == "sqlite" or thorough else 5_000
        queuectl("enqueue", "--queue", "many", "-", input="x\n" * count)
        assert queuectl.json("cancel", "--queue", "many", "--yes")["changed"] == count
        assert queuectl.json("status")["jobs"]["cancelled"] == count


class TestRetry:
    def test_a_dead_job_is_retried_with_a_new_budget(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.kills(queuectl.enqueue("--id", "a", "--retries", "0", "x"))
        assert queuectl("retry", "a") == "a pending\n"
        job = queuectl.job("a")
        assert (job["failures"], job["attempts"], len(job["history"])) == (0, 1, 1)

    def test_a_completed_job_is_retried_only_with_force(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"))
        queuectl("retry", "a", code=4)
        assert "queuectl retry --force" in queuectl.err
        assert queuectl("retry", "--force", "a") == "a pending\n"


class TestHoldAndRelease:
    def test_a_job_is_held_and_released(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "--hold", "x")
        assert queuectl("hold", "a") == "a held\n"
        assert queuectl("release", "@last") == "a pending\n"
        queuectl("release", "a", code=4)

    def test_a_released_child_is_blocked_again(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "p", "x")
        queuectl("enqueue", "--id", "c", "--after", "p", "--hold", "x")
        assert queuectl("release", "c") == "c blocked\n"


class TestEdit:
    @pytest.fixture(autouse=True)
    def one(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "--queue", "mail", "--priority", "2", "x")

    def test_priority_queue_and_time_are_edited_together(self, queuectl: CommandLine) -> None:
        queuectl("edit", "a", "--priority", "-7", "--queue", "web", "--at", "2036-01-01T00:00:00Z")
        job = queuectl.job("a")
        assert (job["priority"], job["queue"], job["run_at"]) == (-7, "web", "2036-01-01T00:00:00.000000Z")

    def test_a_delay_counts_from_now(self, queuectl: CommandLine) -> None:
        queuectl("edit", "a", "--in", "2h")
        left = datetime.fromisoformat(queuectl.job("a")["run_at"]) - datetime.now(UTC)
        assert timedelta(minutes=119) < left <= timedelta(hours=2)

    def test_a_time_without_zone_is_local_with_a_message(self, queuectl: CommandLine) -> None:
        queuectl("edit", "a", "--at", "2036-01-01T00:00:00")
        assert "has no zone; taken as local time" in queuectl.err

    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("--priority", "1001"),
            ("--priority", "x"),
            ("--at", "soon"),
            ("--in", "-5s"),
            ("--in", "1h", "--at", "2036-01-01T00:00:00Z"),
            ("--queue", "a,b"),
            ("--queue", ""),
        ],
    )
    def test_invalid_arguments_change_nothing(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        before = queuectl.job("a")
        queuectl("edit", "a", *words, code=2)
        assert queuectl.job("a") == before

    def test_editing_a_running_job_is_a_conflict(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.take("a")
        queuectl("edit", "a", "--priority", "3", code=4)


class TestDelete:
    def test_an_ended_job_is_deleted_with_its_output(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"), b"out")
        assert queuectl("delete", "a") == "a deleted\n"
        queuectl("show", "a", code=3)
        assert actor.store.read_output("a-1", 0) == []

    def test_deleting_an_unfinished_job_is_a_conflict_with_a_hint(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("delete", "a", code=4)
        assert "only ended jobs can be deleted (queuectl cancel a)" in queuectl.err

    def test_answers_are_printed_in_the_order_of_the_arguments(self, queuectl: CommandLine) -> None:
        for id in "abc":
            queuectl("enqueue", "--id", id, "x")
        queuectl("cancel", "a", "b", "c")
        assert queuectl("delete", "c", "1", "b", "--yes") == "c deleted\na deleted\nb deleted\n"

    def test_the_number_of_a_deleted_job_is_not_reused(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("cancel", "a")
        queuectl("delete", "a")
        assert queuectl.json("enqueue", "x")["jobs"][0]["number"] == 2


class TestPurge:
    @pytest.fixture(autouse=True)
    def ended(self, queuectl: CommandLine, actor: Actor) -> None:
        for id in ("done", "dead", "gone", "waits"):
            queuectl("enqueue", "--id", id, "--retries", "0", "x")
        actor.runs("done")
        actor.kills("dead")
        queuectl("cancel", "gone")

    @pytest.mark.parametrize(
        ("words", "left"),
        [
            ((), {"dead", "waits"}),
            (("--state", "dead"), {"done", "gone", "waits"}),
            (("--state", "completed,dead,cancelled"), {"waits"}),
        ],
    )
    def test_exactly_the_selected_jobs_are_purged(
        self, queuectl: CommandLine, words: tuple[str, ...], left: set[str]
    ) -> None:
        count = 4 - len(left)
        assert queuectl("purge", "--older-than", "0s", "--yes", *words) == f"purged {count}\n"
        assert queuectl.ids() == left

    def test_younger_jobs_are_not_purged(self, queuectl: CommandLine) -> None:
        assert queuectl.json("purge", "--older-than", "1h") == {"schema": 1, "purged": 0}
        assert len(queuectl.ids()) == 4

    def test_without_yes_and_without_a_terminal_no_job_is_changed(self, queuectl: CommandLine) -> None:
        queuectl("purge", "--older-than", "0s", code=2)
        assert "this command would delete 2 jobs (add --yes to confirm)" in queuectl.err
        queuectl("delete", "done", "gone", code=2)
        assert "this command would delete 2 jobs (add --yes to confirm)" in queuectl.err
        assert len(queuectl.ids()) == 4
        assert queuectl("delete", "done") == "done deleted\n"

    @pytest.mark.parametrize("state", ["", "pending", "completed,held"])
    def test_only_ended_states_can_be_named(self, queuectl: CommandLine, state: str) -> None:
        queuectl("purge", "--older-than", "0s", "--state", state, code=2)
        assert len(queuectl.ids()) == 4


def test_a_change_under_json_also_reads_ids_from_stdin(queuectl: CommandLine) -> None:
    queuectl("enqueue", "--id", "a", "x")
    document = json.loads(queuectl("hold", "-", "--json", input="a\n"))
    assert [job["state"] for job in document["jobs"]] == ["held"]


class TestMissingIds:
    """A command for a deleted job must not change another job."""

    @pytest.mark.parametrize("verb", ["cancel", "hold", "release", "retry", "delete", "edit", "wait"])
    def test_no_other_job_is_changed_and_the_nearest_id_is_suggested(
        self, queuectl: CommandLine, verb: str
    ) -> None:
        queuectl("enqueue", "--id", "job-17", "x")
        before = queuectl.job("job-17")
        words = ("--priority", "3") if verb == "edit" else ()
        if verb == "wait":
            queuectl(verb, "job-1", code=125)
        else:
            queuectl(verb, "job-1", *words, code=3)
        assert "there is no job 'job-1'" in queuectl.err
        assert "did you mean job-17?" in queuectl.err
        assert queuectl.job("job-17") == before

    def test_commands_that_only_read_accept_any_prefix(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "job-17", "x")
        for verb in ("show", "status", "explain", "logs"):
            queuectl(verb, "job-1")
