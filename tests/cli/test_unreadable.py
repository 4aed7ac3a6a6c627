"""A job that cannot be decoded is named in one line, and all other jobs are processed normally."""

from contextlib import closing
from typing import Any

import apsw
import pytest

from cli.conftest import CommandLine

DAMAGE = "UPDATE job SET history = '[' WHERE id = 'bad'"


def tamper(queuectl: CommandLine, statement: str, *values: Any) -> None:
    """Change the database with another program."""
    with closing(apsw.Connection(str(queuectl.root / "data" / "queuectl" / "queue.db"))) as connection:
        connection.execute(statement, values)
        assert connection.changes() == 1


@pytest.fixture
def damaged(queuectl: CommandLine) -> None:
    """Three jobs, of which the second is damaged."""
    for id in ("first", "bad", "last"):
        queuectl("enqueue", "--id", id, "true")
    tamper(queuectl, DAMAGE)


@pytest.mark.usefixtures("damaged")
class TestUnreadableJob:
    @pytest.mark.parametrize(
        "words", [("show",), ("status",), ("explain",), ("logs",), ("cancel",), ("retry",), ("hold",)]
    )
    @pytest.mark.parametrize("reference", ["bad", "2"])
    def test_commands_for_an_unreadable_job_fail_with_one_line(
        self, queuectl: CommandLine, words: tuple[str, ...], reference: str
    ) -> None:
        assert queuectl(*words, reference, code=1) == ""
        said = "queuectl: job 2 (bad) cannot be read: history: "
        assert queuectl.err.startswith(said)
        assert queuectl.err.endswith(" (queuectl delete 2 deletes it for good)\n")
        assert queuectl.err.count("\n") == 1
        assert queuectl.json(*words, reference, code=1)["error"]["code"] == "unreadable"

    def test_waiting_for_an_unreadable_job_fails(self, queuectl: CommandLine) -> None:
        queuectl("wait", "bad", code=125)
        assert queuectl.err.startswith("queuectl: job 2 (bad) cannot be read: history")

    def test_readable_jobs_are_changed_although_one_is_unreadable(self, queuectl: CommandLine) -> None:
        queuectl("cancel", "first", "bad", "last", "--yes", code=1)
        assert "job 2 (bad) cannot be read" in queuectl.err
        assert {job["state"] for job in queuectl.json("list")["jobs"]} == {"cancelled"}

    def test_the_list_names_the_unreadable_job(self, queuectl: CommandLine) -> None:
        document = queuectl.json("list")
        assert [job["id"] for job in document["jobs"]] == ["last", "first"]
        [told] = document["unreadable"]
        assert (told["id"], told["number"]) == ("bad", 2)
        assert told["reason"].startswith("history: ")
        assert [line.split("\t")[:3] for line in queuectl.lines("list")][-1] == ["2", "bad", "unreadable"]
        assert queuectl.lines("list", "--columns", "state,id")[-1] == "unreadable\tbad"
        assert '"state":"unreadable"' in queuectl.lines("list", "--jsonl")[-1]
        assert "unreadable" in queuectl.on_terminal("list")

    def test_an_empty_list_also_has_the_key_unreadable(self, queuectl: CommandLine) -> None:
        assert queuectl.json("list", "--queue", "none")["unreadable"] == []

    def test_doctor_names_the_unreadable_job_with_a_hint(self, queuectl: CommandLine) -> None:
        document = queuectl.json("doctor", code=1)
        [check] = [check for check in document["checks"] if check["name"] == "unreadable job"]
        assert check["ok"] is False
        assert check["detail"].startswith("job 2 (bad) cannot be read: history")
        assert check["hint"] == "queuectl delete 2 deletes it for good"

    @pytest.mark.parametrize("reference", ["bad", "2"])
    def test_an_unreadable_job_can_be_deleted(self, queuectl: CommandLine, reference: str) -> None:
        assert queuectl("delete", reference) == "bad deleted\n"
        assert queuectl.json("list")["unreadable"] == []
        assert queuectl.json("status")["jobs"]["total"] == 2
        queuectl("show", "bad", code=3)
        assert queuectl.enqueue("--id", "bad", "true") == "bad"

    def test_an_unreadable_parent_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--after", "bad", "true", code=1)
        assert "job 2 (bad) cannot be read" in queuectl.err
        queuectl("enqueue", "--id", "bad", "true", code=4)


def test_the_child_of_an_unreadable_parent_stays_blocked(queuectl: CommandLine) -> None:
    queuectl("enqueue", "--id", "bad", "true")
    queuectl("enqueue", "--id", "child", "--after", "bad", "true")
    tamper(queuectl, DAMAGE)
    queuectl("hold", "child")
    queuectl("release", "child")
    assert queuectl.job("child")["state"] == "blocked"
    queuectl("delete", "bad")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("max_retries", '{"value": "many"}'),
        ("max_retries", "{"),
        ("lease", '{"value": "1s"}'),
        ("lease", "[]"),
    ],
)
def test_a_damaged_setting_is_ignored_and_reported(queuectl: CommandLine, key: str, text: str) -> None:
    value = {"max_retries": "7", "lease": "60s"}[key]
    queuectl("config", "set", key, value)
    tamper(queuectl, "UPDATE shared SET value = ? WHERE name = 'settings' AND key = ?", text, key)
    queuectl("enqueue", "--id", "a", "true")
    assert queuectl.job("a")["max_retries"] == 3
    [check] = [
        check for check in queuectl.json("doctor", code=1)["checks"] if check["name"] == "unreadable setting"
    ]
    assert check["hint"] == f"queuectl config unset {key}"
    queuectl("config", "unset", key)
    assert "unreadable setting" not in queuectl("doctor", code=1)  # the missing worker is a fault as well


def test_a_damaged_entry_of_a_queue_is_reported(queuectl: CommandLine) -> None:
    queuectl("enqueue", "true")
    queuectl("queue", "limit", "default", "3")
    tamper(queuectl, "UPDATE shared SET value = '{' WHERE name = 'queues'")
    [check] = [
        check for check in queuectl.json("doctor", code=1)["checks"] if check["name"] == "unreadable queue"
    ]
    assert check["hint"] == "queuectl queue resume default"
    queuectl("queue", "resume", "default")
    assert "unreadable queue" not in queuectl("doctor", code=1)
