"""The documented JSON shapes: exactly the documented keys, seconds for durations, RFC 3339 in UTC for times."""

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from factories import NOW, in_state, new_job, processing
from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.job import STATES, State
from queuectl.domain.queue import QueueChange
from queuectl.errors import NotFound
from queuectl.service import commands, shapes, status
from queuectl.service.attention import Attention
from queuectl.store.memory import MemoryStore
from service.scenes import heartbeat, put

JOB_KEYS = {
    "id", "number", "command", "argv", "shell", "queue", "priority", "state", "run_at", "attempts",
    "failures", "losses", "version", "max_retries", "max_losses", "backoff", "no_retry_codes", "timeout",
    "kill_grace", "cwd", "env", "umask", "stdin", "output_limit", "split", "allow_detached", "unique_key",
    "after", "after_failure", "waiting_for", "batch", "tags", "meta", "lease", "cancel_requested", "history",
    "history_dropped", "last_error", "exit_code", "output_tail", "created_at", "updated_at", "started_at",
    "finished_at", "cause", "sort_key", "boost", "content", "schedule", "instant", "label",
    "progress",
}  # fmt: skip
ATTEMPT_KEYS = {
    "attempt", "attempt_id", "worker", "host", "pid", "claimed_at", "started_at", "finished_at", "outcome", "exit_code",
    "signal", "error", "user_cpu", "system_cpu", "max_rss", "output_bytes",
    "ended_processes",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.mark.parametrize("state", STATES)
def test_a_job_has_the_documented_fields_in_every_state(state: State) -> None:
    shown = shapes.job(in_state(state))
    assert shown.keys() == JOB_KEYS
    assert shown["state"] == state
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_an_attempt_has_the_documented_fields() -> None:
    [past] = shapes.job(in_state("dead"))["history"]
    assert past.keys() == ATTEMPT_KEYS
    assert (past["attempt"], past["outcome"], past["exit_code"], past["signal"]) == (1, "exited", 1, None)


def test_durations_are_seconds() -> None:
    shown = shapes.job(
        new_job(
            timeout=timedelta(minutes=5), kill_grace=timedelta(milliseconds=1500), factor=timedelta(seconds=2)
        )
    )
    assert (shown["timeout"], shown["kill_grace"]) == (300, 1.5)
    assert shown["backoff"] == {"base": 2.0, "factor": 2, "max": 3600, "jitter": 0.0}
    assert shapes.job(new_job())["timeout"] is None


def test_times_are_rfc_3339_in_utc() -> None:
    shown = shapes.job(in_state("completed"))
    for name in ("run_at", "created_at", "updated_at", "finished_at"):
        assert TIME.fullmatch(shown[name]), name
    assert shown["started_at"] is None


def test_parents_are_objects() -> None:
    from queuectl.domain.job import Parent

    shown = shapes.job(new_job(after=(Parent("p", "any"),)))
    assert shown["after"] == [{"job": "p", "on": "any"}]
    assert shown["waiting_for"] == ["p"]


def test_a_lease_contains_worker_slot_pid_and_times() -> None:
    running = lifecycle.note_start(processing("a"), slot=2, pid=77, started_at=NOW, now=NOW)
    assert shapes.job(running)["lease"] == {
        "attempt_id": "a" * 32,
        "worker": "w1",
        "slot": 2,
        "pid": 77,
        "claimed_at": "2026-11-22T12:00:00.000000Z",
        "started_at": "2026-11-22T12:00:00.000000Z",
        "until": "2026-11-22T12:00:30.000000Z",
    }


def test_a_cancel_request_contains_user_time_reason_and_cause() -> None:
    asked = lifecycle.cancel(processing("a"), by="ada", reason="wrong", now=NOW)
    assert shapes.job(asked)["cancel_requested"] == {
        "by": "ada",
        "at": "2026-11-22T12:00:00.000000Z",
        "reason": "wrong",
        "cause": "person",
    }


@pytest.mark.parametrize(
    ("stdin", "shown"), [(None, None), (b"", ""), ("é".encode(), "é"), (b"\xff", {"base64": "/w=="})]
)
def test_input_is_shown_as_text_or_as_base64(stdin: bytes | None, shown: Any) -> None:
    assert shapes.job(new_job(stdin=stdin))["stdin"] == shown


def test_the_umask_is_shown_in_octal() -> None:
    assert shapes.job(new_job(umask=0o7))["umask"] == "007"


def test_status_has_the_documented_keys(store: MemoryStore, settings: Settings) -> None:
    put(store, "a")
    put(store, "b", state="processing")
    commands.change_queue(store, "default", QueueChange(limit=3))
    heartbeat(store, "w1", count=2, busy=("b",))
    found = status.status(store, settings)
    shown = shapes.status(replace(found, attention=[Attention("disk", "it is full", "df", fault=False)]))
    assert shown.keys() == {
        "schema", "store", "jobs", "queues", "slots", "without_slot", "workers", "last_hour", "attention",
        "now",
    }  # fmt: skip
    assert shown["schema"] == 1
    assert shown["store"] == {"url": "memory:", "durability": "memory-safe"}
    assert shown["jobs"].keys() == {"total", *STATES}
    assert shown["jobs"]["total"] == 2
    assert shown["queues"] == [
        {
            "name": "default",
            "paused": False,
            "limit": 3,
            "pending": 1,
            "processing": 1,
            "jobs": {"pending": 1, "processing": 1},
            "reason": None,
            "version": 1,
            "oldest_due_seconds": 0,
            "oldest_due": "2026-11-22T12:00:00.000000Z",
        }
    ]
    assert shown["slots"] == {"live": 2, "processing": 1, "idle": 1}
    assert shown["without_slot"] == {"claimed_ahead": 0, "held_by_lost": 0}
    assert shown["attention"] == [{"kind": "disk", "text": "it is full", "hint": "df", "fault": False}]
    [worker] = shown["workers"]
    assert worker.keys() >= {
        "id",
        "host",
        "holder_pid",
        "agent_pid",
        "started_at",
        "last_heartbeat",
        "state",
        "slots",
    }
    assert worker["slots"] == [
        {
            "slot": 0,
            "job": "b",
            "since": "2026-11-22T12:00:00.000000Z",
            "number": 2,
            "command": "true",
            "stopped": False,
            "progress": None,
        },
        {
            "slot": 1,
            "job": None,
            "since": None,
            "number": None,
            "command": None,
            "stopped": False,
            "progress": None,
        },
    ]


def test_an_error_has_the_documented_keys() -> None:
    assert shapes.error(NotFound("nobody", "look elsewhere")) == {
        "schema": 1,
        "error": {"code": "not_found", "message": "nobody", "hint": "look elsewhere"},
    }
