"""`queuectl events`: where it begins, what it selects, its formats, and following."""

import json
from datetime import timedelta

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import SQLITE, direct
from factories import NOW
from queuectl.service import events
from queuectl.service.telling import user_and_host

pytestmark = direct(SQLITE)


@pytest.fixture(autouse=True)
def some(queuectl: CommandLine, actor: Actor) -> None:
    """a: dead with exit code 1; b: held."""
    queuectl("enqueue", "--id", "a", "--queue", "mail", "--retries", "0", "send 1")
    queuectl("enqueue", "--id", "b", "make")
    actor.kills("a")
    queuectl("hold", "b")


def told(text: str) -> list[tuple[str, str]]:
    shown = [json.loads(line) for line in text.splitlines()]
    return [(each["event"].removeprefix("job."), each["job"]) for each in shown]


def test_the_events_of_the_last_hour_are_printed_as_lines(queuectl: CommandLine) -> None:
    lines = queuectl.lines("events")
    assert [line.split()[2] for line in lines][:2] == ["enqueued", "enqueued"]
    assert lines[-1].split()[2] == "held"
    assert f"by {user_and_host()}" in lines[-1]


def test_an_event_is_a_document_with_who_did_it(queuectl: CommandLine) -> None:
    last = json.loads(queuectl.lines("events", "--jsonl")[-1])
    assert (last["schema"], last["event"], last["job"], last["state"]) == (1, "job.held", "b", "held")
    assert (last["by"], last["via"]) == (user_and_host(), "cli")


def test_the_list_as_one_document_has_the_next_cursor(queuectl: CommandLine) -> None:
    found = queuectl.json("events")
    assert found["next"] == found["events"][-1]["id"]
    assert queuectl.json("events", "--since", found["next"])["events"] == []
    second = found["events"][1]["id"]
    assert queuectl.json("events", "--since", second)["events"] == found["events"][2:]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--type", "enqueued"), [("enqueued", "a"), ("enqueued", "b")]),
        (("--type", "job.held,enqueued"), [("enqueued", "a"), ("enqueued", "b"), ("held", "b")]),
        (("--where", "queue:default"), [("enqueued", "b"), ("held", "b")]),
        (("--where", "state:held"), [("held", "b")]),
        (("--limit", "1"), [("enqueued", "a")]),
        (("--since", "2h", "--limit", "2"), [("enqueued", "a"), ("enqueued", "b")]),
        (("--since", "now"), []),
        (("--since", "@0", "--type", "held"), [("held", "b")]),
        (("--since", "2020-01-01T00:00Z", "--type", "held"), [("held", "b")]),
        (("--since", "0", "--type", "held"), [("held", "b")]),
    ],
    ids=str,
)
def test_options_select_events(
    queuectl: CommandLine, words: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert told(queuectl("events", "--jsonl", *words)) == expected


@pytest.mark.parametrize(
    "words",
    [
        ("--since", "yesterday"),
        ("--since", "1-2"),
        ("--since", "9" * 40),
        ("--since", ""),
        ("--type", "finished"),
        ("--type", ""),
        ("--where", "colour:red"),
        ("--limit", "0"),
        ("--limit", "x"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(queuectl: CommandLine, words: tuple[str, ...]) -> None:
    queuectl("events", *words, code=2)


def test_a_cursor_of_deleted_events_has_a_gap(queuectl: CommandLine) -> None:
    store = queuectl.store()
    store.trim_events(NOW - timedelta(days=9999), 1, 100)
    store.close()
    shown = [json.loads(line) for line in queuectl.lines("events", "--since", "0", "--jsonl")]
    assert [each["event"] for each in shown] == ["events.gap", "job.held"]
    assert queuectl.json("events", "--since", "0")["gap"] is True
    queuectl("events", "--since", "0")
    assert "older events were deleted" in queuectl.err


def test_a_follower_prints_what_was_and_what_comes(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PACE", 0.0)
    out = queuectl("events", "--follow", "--since", "1h", "--limit", "3", "--jsonl")
    assert told(out)[:2] == [("enqueued", "a"), ("enqueued", "b")]


def test_events_that_are_switched_off_are_not_written(queuectl: CommandLine) -> None:
    end = queuectl.json("events")["next"]
    queuectl("config", "set", "events", "none")
    queuectl("release", "b")
    queuectl("config", "set", "events", "all")
    queuectl("cancel", "b")
    assert told(queuectl("events", "--since", end, "--jsonl")) == [("cancelled", "b")]
