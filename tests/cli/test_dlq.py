"""`queuectl dlq` shows, retries and purges dead jobs only."""

import json

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine


@pytest.fixture(autouse=True)
def some(queuectl: CommandLine, actor: Actor) -> None:
    """d, m (of queue mail): dead. a: pending. c: completed."""
    for id, queue in (("d", "default"), ("m", "mail"), ("a", "default"), ("c", "default")):
        queuectl("enqueue", "--id", id, "--queue", queue, "--retries", "0", "x")
    for id in ("d", "m"):
        actor.kills(id)
    actor.runs("c")


def states(queuectl: CommandLine) -> dict[str, str]:
    return {job["id"]: job["state"] for job in queuectl.json("list")["jobs"]}


class TestList:
    def test_the_list_contains_only_dead_jobs(self, queuectl: CommandLine) -> None:
        assert queuectl.lines("dlq", "list", "--columns", "id,error") == ["m\texit code 1", "d\texit code 1"]

    def test_the_document_equals_that_of_list(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "list", "--json") == queuectl("list", "--state", "dead", "--json")

    @pytest.mark.parametrize("words", [("--queue", "mail"), ("--limit", "1")])
    def test_the_filters_of_list_can_be_used(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        assert [job["id"] for job in queuectl.json("dlq", "list", *words)["jobs"]] == ["m"]

    def test_another_state_is_refused_with_the_right_command(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "list", "--state", "failed", code=2)
        assert "queuectl list --state failed" in queuectl.err


class TestShow:
    def test_a_dead_job_is_shown_as_by_show(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "show", "d", "--json") == queuectl("show", "d", "--json")
        assert queuectl("dlq", "show", "-", input="d\n") == queuectl("show", "d")

    def test_showing_a_job_that_is_not_dead_is_a_conflict(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "show", "a", code=4)
        assert "job a is pending, not dead" in queuectl.err

    def test_the_suggested_commands_work(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("dlq", "retry", "a", code=4)
        assert "(queuectl explain a)" in queuectl.err
        actor.runs("a")
        queuectl("dlq", "retry", "a", code=4)
        assert "(queuectl retry --force a)" in queuectl.err
        queuectl("retry", "--force", "a")
        queuectl("cancel", "a")
        queuectl("dlq", "retry", "a", code=4)
        assert "(queuectl retry a)" in queuectl.err
        queuectl("retry", "a")


class TestRetry:
    def test_a_dead_job_is_retried_by_name(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "retry", "d") == "d pending\n"
        assert states(queuectl)["m"] == "dead"

    def test_dead_jobs_are_retried_from_stdin(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "retry", "-", input="m\nd\n") == "m pending\nd pending\n"

    def test_all_dead_jobs_are_retried(self, queuectl: CommandLine) -> None:
        assert set(queuectl.lines("dlq", "retry", "--all")) == {"d pending", "m pending"}
        assert queuectl("dlq", "retry", "--all") == ""
        assert "the DLQ is empty" in queuectl.err

    def test_all_dead_jobs_of_a_queue_are_retried(self, queuectl: CommandLine) -> None:
        document = queuectl.json("dlq", "retry", "--all", "--queue", "mail")
        assert [job["id"] for job in document["jobs"]] == ["m"]
        assert states(queuectl)["d"] == "dead"

    def test_a_job_that_is_not_dead_is_refused_before_any_change(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "retry", "d", "c", code=4)
        assert states(queuectl)["d"] == "dead"

    @pytest.mark.parametrize("words", [(), ("d", "--all"), ("d", "--queue", "mail"), ("--queue", "mail")])
    def test_ambiguous_arguments_are_refused(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl("dlq", "retry", *words, code=2)


class TestPurge:
    def test_a_purge_deletes_all_dead_jobs_and_no_other(self, queuectl: CommandLine) -> None:
        assert json.loads(queuectl("dlq", "purge", "--yes", "--json")) == {"schema": 1, "purged": 2}
        assert queuectl.ids() == {"a", "c"}

    def test_without_yes_and_without_a_terminal_no_job_is_purged(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "purge", code=2)
        assert "this command would delete 2 jobs (add --yes to confirm)" in queuectl.err
        assert len(queuectl.ids()) == 4

    def test_younger_jobs_are_not_purged(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "purge", "--older-than", "1h") == "purged 0\n"
        assert len(queuectl.ids()) == 4
