"""The log of a worker: one line per event, plain or JSON; and a closed log does not stop the worker."""

import errno
import io
import json
import os
import re
from typing import Any, TextIO

import pytest

from factories import NOW, in_state, processing
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.outcome import Outcome, Report
from queuectl.worker.agent.log import Log, run_time


class Said:
    """A log that is written to memory."""

    def __init__(self, format: str) -> None:
        self._out = io.StringIO()
        self.log = Log(format, self._out)

    def line(self) -> str:
        """The one logged line."""
        self.log.flush()
        text = self._out.getvalue()
        assert text.count("\n") == 1
        assert text.endswith("\n")
        return text.rstrip("\n")

    def document(self) -> dict[str, Any]:
        """The one logged line, as JSON."""
        return dict(json.loads(self.line()))


@pytest.fixture
def plain() -> Said:
    return Said("plain")


@pytest.fixture
def as_json() -> Said:
    return Said("json")


def ended(outcome: Outcome, **fields: Any) -> tuple[Job, Job, Outcome]:
    """A running job, what becomes of it, and how it ended."""
    before = processing("a", **fields)
    report = Report(outcome=outcome, finished_at=NOW)
    return before, lifecycle.finish(before, report, now=NOW, random_number=0.5), outcome


ENDS = [
    (Outcome(kind="exited", exit_code=0), {}, "done", "exit code 0 after 1.5s: completed"),
    (Outcome(kind="exited", exit_code=3), {}, "retry",
     "exit code 3 after 1.5s: failed, retry 1 at 2026-11-22T12:00:02.000000Z"),
    (Outcome(kind="exited", exit_code=3), {"max_retries": 0}, "dead", "exit code 3 after 1.5s: dead"),
    (Outcome(kind="signalled", signal=9), {"max_retries": 0}, "dead", "killed by signal 9 after 1.5s: dead"),
    (Outcome(kind="cancelled", signal=15), {}, "cancelled", "cancelled after 1.5s: cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(("outcome", "fields", "event", "words"), ENDS)
def test_the_end_of_an_attempt_is_logged_with_the_next_state(
    plain: Said, as_json: Said, outcome: Outcome, fields: dict[str, Any], event: str, words: str
) -> None:
    for said in (plain, as_json):
        said.log.finished(*ended(outcome, **fields), seconds=1.5)
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ {event:<9} a {re.escape(words)}", plain.line())
    document = as_json.document()
    assert (document["event"], document["job"], document["attempt"]) == (event, "a", 1)
    assert (document["outcome"], document["exit_code"]) == (outcome.kind, outcome.exit_code)
    assert document["message"] == f"a {words}"
    assert (document["run_at"] is not None) == (event == "retry")


@pytest.mark.parametrize(("count", "words"), [(1, "1 process"), (3, "3 processes")])
def test_the_number_of_ended_leftovers_is_logged(plain: Said, as_json: Said, count: int, words: str) -> None:
    outcome = Outcome(kind="exited", exit_code=0)
    before = processing("a")
    report = Report(outcome=outcome, finished_at=NOW, ended_processes=count)
    after = lifecycle.finish(before, report, now=NOW, random_number=0.5)
    for said in (plain, as_json):
        said.log.finished(before, after, outcome, 1.5)
    assert plain.line().endswith(f"completed (ended {words} it left running; --allow-detached keeps them)")
    assert as_json.document()["ended_processes"] == count


def test_an_end_without_a_start_has_no_duration(plain: Said) -> None:
    plain.log.finished(
        *ended(Outcome(kind="spawn_error", error="no such shell"), max_retries=0), seconds=None
    )
    assert plain.line().endswith("a no such shell: dead")


def test_a_start_names_slot_pid_and_command(plain: Said, as_json: Said) -> None:
    job = processing("a", command="make  report\n--all")
    for said in (plain, as_json):
        said.log.started(job, slot=2, pid=77)
    assert plain.line().endswith("start     a attempt 1, slot 2, pid 77: make report --all")
    assert as_json.document() == {
        "time": as_json.document()["time"],
        "event": "start",
        "message": "a attempt 1, slot 2, pid 77: make report --all",
        "job": "a",
        "attempt": 1,
        "slot": 2,
        "pid": 77,
    }


def test_a_long_command_is_cut_with_an_ellipsis(plain: Said) -> None:
    plain.log.started(processing("a", command="x" * 500), slot=0, pid=1)
    assert plain.line().endswith("x" * 99 + "…")


def test_control_characters_of_a_command_are_escaped(plain: Said) -> None:
    plain.log.started(processing("a", command="\x1b[2J\x07\u202e"), slot=0, pid=1)
    assert plain.line().endswith("\\x1b[2J\\x07\\x202e")


def test_a_late_result_and_a_recovery_are_logged(plain: Said, as_json: Said) -> None:
    plain.log.fenced(processing("a"))
    assert " fenced    a the lease passed to another attempt" in plain.line()
    as_json.log.recovered(in_state("pending", "b"))
    document = as_json.document()
    assert (document["event"], document["message"], document["state"]) == (
        "recovered",
        "b never started: pending",
        "pending",
    )


def test_a_note_names_no_job(plain: Said, as_json: Said) -> None:
    for said in (plain, as_json):
        said.log.note("store", "the store is away", error="store_unavailable")
    assert plain.line()[21:] == "store     the store is away"
    document = as_json.document()
    assert document.keys() == {"time", "event", "message", "error"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["time"])


def test_lines_are_written_once_and_in_order_with_the_next_flush() -> None:
    out = io.StringIO()
    log = Log(out=out)
    log.note("one", "1")
    log.note("two", "2")
    assert out.getvalue() == ""
    log.flush()
    log.flush()
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["one", "two"]


class Failing(io.StringIO):
    """A stream on which every write fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def writelines(self, _lines: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "gone"), ValueError("closed")],
)
def test_a_failed_write_loses_the_line_and_raises_no_error(error: Exception) -> None:
    log = Log(out=Failing(error))
    log.note("one", "1")
    log.flush()
    log.note("two", "2")
    log.flush()


def test_the_number_of_lost_lines_is_logged_when_writing_works_again() -> None:
    """The disk of the log is full for some time."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = os.write(write, bytes(1 << 20))
    with os.fdopen(write, "w") as out, os.fdopen(read, "rb", buffering=0) as reader:
        log = Log()
        log._descriptor = out.fileno()
        for event in ("one", "two"):
            log.note(event, "x")
            log.flush()
        assert log.lost == 2
        while filled:
            filled -= len(reader.read(filled))
        log.note("three", "y")
        log.flush()
        lines = reader.read(1 << 20).decode().splitlines()
    assert [line[21:] for line in lines] == [
        "unheard   2 lines before this could not be written",
        "three     y",
    ]
    assert log.lost == 0


def test_a_pipe_without_a_reader_raises_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    out: TextIO = os.fdopen(write, "w")
    log = Log(out=out)
    log.note("one", "1")
    log.flush()
    with pytest.raises(BrokenPipeError):
        out.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.0123, "12ms"), (0.9999, "1s"), (3.24, "3.2s"), (3900.0, "1h5m"), (-1.0, "0s")],
)
def test_a_run_time_is_formatted_shortly(seconds: float, text: str) -> None:
    assert run_time(seconds) == text
