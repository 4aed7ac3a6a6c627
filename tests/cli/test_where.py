"""`--where` on the commands: which jobs they read and change, dry runs, limits, and the document of an operation."""

import json

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import SQLITE, direct
from queuectl.service import matching, paging


@pytest.fixture(autouse=True)
def some(queuectl: CommandLine, actor: Actor) -> None:
    """m1, m2: wait in mail; d1: wait in default, with a comma in the command; dead1, dead2: exit code 1, in mail."""
    for id, queue, command in (
        ("m1", "mail", "send 1"),
        ("m2", "mail", "send 2"),
        ("d1", "default", "rsync -a, /x"),
        ("dead1", "mail", "send 3"),
        ("dead2", "mail", "send 4"),
    ):
        queuectl("enqueue", "--id", id, "--queue", queue, "--retries", "0", command)
    actor.kills("dead1")
    actor.kills("dead2")


def listed(queuectl: CommandLine, *words: str) -> list[str]:
    return [job["id"] for job in queuectl.json("list", *words)["jobs"]]


def states(queuectl: CommandLine) -> dict[str, str]:
    return {job["id"]: job["state"] for job in queuectl.json("list", "--all")["jobs"]}


class TestList:
    @pytest.mark.parametrize(
        ("words", "ids"),
        [
            (("--where", "queue:mail state:pending"), ["m2", "m1"]),
            (("--where", "exit:1"), ["dead2", "dead1"]),
            (("--where", "exit:1", "--limit", "1"), ["dead2"]),
            (("--where", 'cmd:~"-a, /"'), ["d1"]),
            (("--where", "-queue:mail"), ["d1"]),
            (("--where", "number:2-3"), ["d1", "m2"]),
            (("--where", "number:2-3", "--sort", "number"), ["m2", "d1"]),
            (("--where", "cmd:~send", "--queue", "mail", "--state", "dead"), ["dead2", "dead1"]),
            (("--where", "cmd:~none"), []),
            (("--where", "since:1h before:0s attempts:>0", "--sort", "ended"), ["dead2", "dead1"]),
        ],
        ids=str,
    )
    def test_the_jobs_that_match_are_listed(
        self, queuectl: CommandLine, words: tuple[str, ...], ids: list[str]
    ) -> None:
        assert listed(queuectl, *words) == ids

    def test_the_pages_of_a_filter_that_no_index_decides_follow_each_other(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "BATCH", 2)
        found, cursor = list[str](), None
        while True:
            after = ("--after", cursor) if cursor else ()
            page = queuectl.json("list", "--where", "cmd:~send", "--limit", "1", *after)
            found += [job["id"] for job in page["jobs"]]
            if (cursor := page["next"]) is None:
                break
        assert found == ["dead2", "dead1", "m2", "m1"]

    def test_a_page_says_how_many_jobs_it_looked_at_and_the_next_one_goes_on(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "BATCH", 2)
        monkeypatch.setattr(matching, "LOOKED_AT", 2)
        page = queuectl.json("list", "--where", "cmd:~rsync")
        assert (page["jobs"], page["looked_at"]) == ([], 2)
        assert listed(queuectl, "--where", "cmd:~rsync", "--after", page["next"]) == ["d1"]
        assert listed(queuectl, "--where", "cmd:~rsync", "--all") == ["d1"]
        queuectl("list", "--where", "cmd:~rsync")
        assert "2 more jobs were looked at; to look further: --all, or --after" in queuectl.err

    def test_a_filter_that_no_index_decides_is_reported(self, queuectl: CommandLine) -> None:
        queuectl("list", "--where", "exit:1")
        assert "no index decides this filter, so every job is looked at" in queuectl.err
        queuectl("list", "--where", "exit:1 queue:mail")
        assert queuectl.err == ""

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("stat:dead", "a filter has no field 'stat' (did you mean state?)"),
            ("", "the filter is empty"),
            ("dead", "not a term"),
        ],
    )
    def test_a_wrong_filter_is_refused(self, queuectl: CommandLine, text: str, says: str) -> None:
        queuectl("list", "--where", text, code=2)
        assert says in queuectl.err

    def test_dead_jobs_are_filtered_further(self, queuectl: CommandLine) -> None:
        [job] = queuectl.json("dlq", "list", "--where", "cmd:~3")["jobs"]
        assert job["id"] == "dead1"


class TestChange:
    @pytest.mark.parametrize(
        ("words", "changed"),
        [
            (("cancel", "--where", "queue:mail"), {"m1": "cancelled", "m2": "cancelled"}),
            (("cancel", "--where", "cmd:~2", "--queue", "mail"), {"m2": "cancelled"}),
            (("hold", "--where", "cmd:~send state:pending"), {"m1": "held", "m2": "held"}),
            (("retry", "--where", "exit:1"), {"dead1": "pending", "dead2": "pending"}),
            (("retry", "--where", "queue:mail", "--limit", "1"), {"dead1": "pending"}),
            (("retry", "--where", "queue:mail", "--resume", "4"), {"dead2": "pending"}),
            (("requeue", "--where", "id:dead1"), {"dead1": "pending"}),
            (("dlq", "retry", "--where", "cmd:~4"), {"dead2": "pending"}),
            (("delete", "--where", "state:dead number:>4"), {"dead2": ""}),
        ],
        ids=str,
    )
    def test_exactly_the_jobs_that_match_are_changed(
        self, queuectl: CommandLine, words: tuple[str, ...], changed: dict[str, str]
    ) -> None:
        before = states(queuectl)
        queuectl(*words, "--yes")
        expected = before | changed
        assert states(queuectl) == {id: state for id, state in expected.items() if state}

    def test_held_jobs_are_released_and_failed_jobs_edited(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("hold", "m1", "m2")
        queuectl("release", "--where", "state:held cmd:~1", "--yes")
        assert (states(queuectl)["m1"], states(queuectl)["m2"]) == ("pending", "held")
        queuectl("enqueue", "--id", "f", "--queue", "mail", "x")
        actor.runs("f", exit_code=1)
        document = queuectl.json("edit", "--where", "state:held,failed,dead", "--priority", "5", "--yes")
        assert (document["matched"], document["changed"], document["refused_count"]) == (4, 2, 2)
        assert [queuectl.job(id)["priority"] for id in ("m2", "f")] == [5, 5]

    @direct(SQLITE)
    def test_the_document_has_the_sums_and_at_most_twenty_refusals(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--queue", "many", "-", input="x\n" * 30)
        queuectl("cancel", "--queue", "many", "--yes")
        document = queuectl.json("hold", "--where", "queue:many", "--yes", code=4)
        sums = {key: document[key] for key in ("matched", "changed", "unchanged", "refused_count", "resume")}
        assert sums == {"matched": 30, "changed": 0, "unchanged": 0, "refused_count": 30, "resume": None}
        assert len(document["refused"]) == 20
        assert "only jobs that wait can be held" in document["refused"][0]["reason"]

    def test_some_refusals_do_not_fail_a_command_with_a_filter(self, queuectl: CommandLine) -> None:
        document = queuectl.json("hold", "--where", "queue:mail", "--yes")
        assert (document["changed"], document["refused_count"]) == (2, 2)
        queuectl("hold", "--where", "state:dead", "--yes", code=4)

    def test_no_match_is_said_and_is_no_failure(self, queuectl: CommandLine) -> None:
        assert queuectl("hold", "--where", "queue:nothing", "--yes") == ""
        assert queuectl.err == "queuectl: no job matches, nothing was changed\n"
        document = queuectl.json("hold", "--where", "queue:nothing")
        assert (document["matched"], document["jobs"], document["resume"]) == (0, [], None)

    def test_without_yes_the_number_of_jobs_is_in_the_error(self, queuectl: CommandLine) -> None:
        for words in (("hold", "--where", "queue:mail state:pending"), ("retry", "--where", "exit:1")):
            queuectl(*words, code=2)
            assert f"this command would {words[0]} 2 jobs (add --yes to confirm)" in queuectl.err

    @pytest.mark.parametrize(
        "words",
        [
            ("hold", "m1", "--where", "queue:mail"),
            ("hold", "m1", "--limit", "3"),
            ("hold", "--where", "queue:mail", "--limit", "0"),
            ("hold", "--where", "queue:mail", "--resume", "x"),
            ("hold",),
            ("hold", "--where", "queue:"),
        ],
        ids=str,
    )
    def test_wrong_selections_are_refused(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        before = states(queuectl)
        queuectl(*words, "--yes", code=2)
        assert states(queuectl) == before

    def test_a_limit_ends_with_the_number_to_resume(self, queuectl: CommandLine) -> None:
        document = queuectl.json("hold", "--where", "state:pending", "--limit", "2", "--yes")
        assert (document["changed"], document["resume"]) == (2, 2)
        document = queuectl.json("hold", "--where", "state:pending", "--resume", "2", "--yes")
        assert [job["id"] for job in document["jobs"]] == ["d1"]


class TestDryRun:
    @pytest.mark.parametrize(
        ("words", "matched", "by_state", "sample"),
        [
            (("cancel", "--where", "queue:mail"), 2, {"pending": 2}, ["m1", "m2"]),
            (("cancel", "--where", "cmd:~send"), 2, {"pending": 2}, ["m1", "m2"]),
            (("retry", "--where", "queue:mail"), 2, {"dead": 2}, ["dead1", "dead2"]),
            (("hold", "--where", "queue:mail"), 4, {"pending": 2, "dead": 2}, ["m1", "m2", "dead1", "dead2"]),
            (("hold", "--where", "queue:mail", "--limit", "1"), 1, {"pending": 1}, ["m1"]),
            (("edit", "--where", "cmd:~rsync", "--priority", "3"), 1, {"pending": 1}, ["d1"]),
            (("delete", "dead1", "m1"), 2, {"pending": 1, "dead": 1}, ["dead1", "m1"]),
        ],
        ids=str,
    )
    def test_nothing_is_changed_and_the_document_says_what_would_be(
        self,
        queuectl: CommandLine,
        words: tuple[str, ...],
        matched: int,
        by_state: dict[str, int],
        sample: list[str],
    ) -> None:
        before = queuectl.json("list", "--all")
        document = queuectl.json(*words, "--dry-run")
        expected = {"schema": 1, "dry_run": True, "matched": matched, "by_state": by_state, "sample": sample}
        assert document == expected
        assert queuectl.json("list", "--all") == before

    def test_a_person_reads_a_sentence(self, queuectl: CommandLine) -> None:
        assert queuectl("cancel", "--queue", "mail", "--dry-run") == (
            "would cancel 2 jobs: 2 pending\nfor example m1, m2\n"
        )


class TestWaitAndStatus:
    def test_a_wait_for_a_filter_ends_when_the_jobs_have_ended(self, queuectl: CommandLine) -> None:
        queuectl("cancel", "m1", "m2")
        assert json.loads(queuectl("wait", "--where", "queue:mail", "--json", code=1))["jobs"]
        queuectl("wait", "--where", "queue:mail", "--timeout", "1s", code=1)

    def test_a_wait_for_no_job_is_said(self, queuectl: CommandLine) -> None:
        assert queuectl("wait", "--where", "queue:nothing") == "nothing to wait for\n"

    def test_the_status_counts_the_jobs_that_match(self, queuectl: CommandLine) -> None:
        document = queuectl.json("status", "--where", "queue:mail cmd:~send")
        counts = {state: count for state, count in document["jobs"].items() if count}
        assert counts == {"total": 4, "pending": 2, "dead": 2}
        assert [(each["name"], each["pending"]) for each in document["queues"]] == [("mail", 2)]
        assert queuectl("status", "--where", "exit:1") == "2 jobs: 2 dead\n"
