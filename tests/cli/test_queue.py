"""`queuectl queue` lists, pauses, resumes and limits queues."""

import pytest

from cli.conftest import CommandLine
from queuectl.domain.job import STATES


def test_the_list_has_the_documented_keys(queuectl: CommandLine) -> None:
    queuectl("enqueue", "--queue", "mail", "x")
    queuectl("queue", "limit", "mail", "2")
    document = queuectl.json("queue", "list")
    assert document == {
        "schema": 1,
        "queues": [
            {
                "name": "mail",
                "paused": False,
                "limit": 2,
                "pending": 1,
                "processing": 0,
                "jobs": {"pending": 1},
                "reason": None,
                "version": 1,
            }
        ],
    }


def test_the_list_has_one_line_per_queue_with_a_count_per_state(queuectl: CommandLine) -> None:
    queuectl("enqueue", "x")
    queuectl("queue", "pause", "default")
    [line] = queuectl.lines("queue", "list")
    assert line.split("\t") == ["default", "paused", "", "1", *["0"] * (len(STATES) - 1)]


def test_pause_and_resume_print_what_they_changed(queuectl: CommandLine) -> None:
    queuectl("enqueue", "x")
    assert queuectl("queue", "pause", "default") == "queue default paused\n"
    assert queuectl("queue", "pause", "default") == "queue default was already paused\n"
    assert queuectl("queue", "resume", "default") == "queue default resumed\n"
    assert queuectl("queue", "resume", "default") == "queue default was not paused\n"


@pytest.mark.parametrize("words", [("pause", "q"), ("resume", "q"), ("limit", "q", "3")])
def test_the_document_of_a_change_contains_the_queue(queuectl: CommandLine, words: tuple[str, ...]) -> None:
    queuectl("enqueue", "--queue", "q", "x")
    document = queuectl.json("queue", *words)
    assert document.keys() == {"schema", "queue"}
    assert document["queue"]["name"] == "q"
    assert document["queue"]["pending"] == 1


def test_a_limit_is_removed_with_none_and_kept_by_a_pause(queuectl: CommandLine) -> None:
    queuectl("doctor", "--create")
    queuectl("queue", "limit", "q", "3")
    queuectl("queue", "pause", "q")
    assert queuectl.json("queue", "list")["queues"][0]["limit"] == 3
    assert queuectl("queue", "limit", "q", "none") == "queue q has no limit\n"
    assert queuectl.json("queue", "list")["queues"][0]["limit"] is None


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "", "99999999"])
def test_an_invalid_limit_is_refused(queuectl: CommandLine, limit: str) -> None:
    queuectl("queue", "limit", "q", limit, code=2)
    assert queuectl.json("queue", "list")["queues"] == []


@pytest.mark.parametrize("name", ["", " ", "a,b", "x" * 201, "a\nb"])
def test_an_invalid_queue_name_is_refused(queuectl: CommandLine, name: str) -> None:
    for words in (("pause", name), ("resume", name), ("limit", name, "1")):
        queuectl("queue", *words, code=2)


def test_the_reason_of_a_pause_is_listed(queuectl: CommandLine) -> None:
    queuectl("doctor", "--create")
    queuectl("queue", "pause", "mail", "--reason", "disk\x1b[31m full")
    [line] = queuectl.lines("queue", "list")
    assert line.split("\t")[:2] == ["mail", "paused"]
    assert line.endswith("disk\\x1b[31m full")
    assert queuectl.json("queue", "list")["queues"][0]["reason"] == "disk\x1b[31m full"
    queuectl("queue", "resume", "mail")
    [line] = queuectl.lines("queue", "list")
    assert line.endswith("0")
