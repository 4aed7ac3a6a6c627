"""`queuectl dlq`: the dead, and only the dead."""

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
    def test_only_the_dead_are_in_it(self, queuectl: CommandLine) -> None:
        assert queuectl.lines("dlq", "list", "--columns", "id,error") == ["m\texit code 1", "d\texit code 1"]

    def test_its_document_is_that_of_list(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "list", "--json") == queuectl("list", "--state", "dead", "--json")

    @pytest.mark.parametrize("words", [("--queue", "mail"), ("--limit", "1")])
    def test_the_filters_of_list_hold(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        assert [job["id"] for job in queuectl.json("dlq", "list", *words)["jobs"]] == ["m"]

    def test_another_state_is_refused_with_the_command_that_is_meant(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "list", "--state", "failed", code=2)
        assert "queuectl list --state failed" in queuectl.err


class TestShow:
    def test_a_dead_one_is_shown_as_everywhere(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "show", "d", "--json") == queuectl("show", "d", "--json")
        assert queuectl("dlq", "show", "-", input="d\n") == queuectl("show", "d")

    def test_a_living_one_is_a_conflict(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "show", "a", code=4)
        assert "job a is pending, not dead" in queuectl.err

    def test_what_is_said_to_do_can_be_done(self, queuectl: CommandLine, actor: Actor) -> None:
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
    def test_by_name(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "retry", "d") == "d pending\n"
        assert states(queuectl)["m"] == "dead"

    def test_from_stdin(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "retry", "-", input="m\nd\n") == "m pending\nd pending\n"

    def test_all(self, queuectl: CommandLine) -> None:
        assert set(queuectl.lines("dlq", "retry", "--all")) == {"d pending", "m pending"}
        assert queuectl("dlq", "retry", "--all") == ""
        assert "the DLQ is empty" in queuectl.err

    def test_all_of_a_queue(self, queuectl: CommandLine) -> None:
        document = queuectl.json("dlq", "retry", "--all", "--queue", "mail")
        assert [job["id"] for job in document["jobs"]] == ["m"]
        assert states(queuectl)["d"] == "dead"

    def test_one_that_is_not_dead_stops_it_before_anything_is_changed(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "retry", "d", "c", code=4)
        assert states(queuectl)["d"] == "dead"

    @pytest.mark.parametrize("words", [(), ("d", "--all"), ("d", "--queue", "mail"), ("--queue", "mail")])
    def test_what_is_not_clear_is_refused(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl("dlq", "retry", *words, code=2)


class TestPurge:
    def test_all_dead_ones_go_and_nothing_else(self, queuectl: CommandLine) -> None:
        assert json.loads(queuectl("dlq", "purge", "--yes", "--json")) == {"schema": 1, "purged": 2}
        assert queuectl.ids() == {"a", "c"}

    def test_without_yes_and_nobody_to_ask_nothing_is_done(self, queuectl: CommandLine) -> None:
        queuectl("dlq", "purge", code=2)
        assert "this command would delete 2 jobs (add --yes to confirm)" in queuectl.err
        assert len(queuectl.ids()) == 4

    def test_the_young_stay(self, queuectl: CommandLine) -> None:
        assert queuectl("dlq", "purge", "--older-than", "1h") == "purged 0\n"
        assert len(queuectl.ids()) == 4
