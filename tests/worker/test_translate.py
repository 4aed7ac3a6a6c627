"""The message `exited` of the holder is translated to outcome, numbers and next state of the job."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factories import NOW, new_job, processing
from queuectl.domain.job import Job
from queuectl.domain.outcome import INTERRUPTED, Outcome
from queuectl.worker.agent import translate
from queuectl.worker.protocol import Exited, to_fields

EPOCH = NOW.timestamp()


def exited(job_id: str = "a", attempt_id: str = "a" * 32, **fields: Any) -> Exited:
    """The message `exited` of a holder."""
    return Exited(attempt_id, job_id, **fields)


OUTCOMES: list[tuple[dict[str, Any], Outcome]] = [
    ({"kind": "exited", "exit_code": 0}, Outcome(kind="exited", exit_code=0)),
    ({"kind": "exited", "exit_code": 7}, Outcome(kind="exited", exit_code=7)),
    ({"kind": "signalled", "signal": 9}, Outcome(kind="signalled", signal=9)),
    ({"kind": "signalled", "signal": 11, "core": True}, Outcome(kind="signalled", signal=11, core=True)),
    ({"kind": "spawn_error", "error": "no such program"},
     Outcome(kind="spawn_error", error="no such program")),
    ({"kind": "signalled", "signal": 15, "ended_by": "timeout"},
     Outcome(kind="timed_out", signal=15, error=translate.TIMED_OUT)),
    ({"kind": "exited", "exit_code": 0, "ended_by": "timeout"},
     Outcome(kind="timed_out", exit_code=0, error=translate.TIMED_OUT)),
    ({"kind": "signalled", "signal": 9, "ended_by": "timeout", "error": "unkillable"},
     Outcome(kind="timed_out", signal=9, error="unkillable")),
    ({"kind": "signalled", "signal": 15, "ended_by": "cancelled"}, Outcome(kind="cancelled", signal=15)),
    ({"kind": "exited", "exit_code": 0, "ended_by": "cancelled"}, Outcome(kind="cancelled", exit_code=0)),
    ({"kind": "signalled", "signal": 9, "ended_by": "lease"},
     Outcome(kind="lost", signal=9, error=translate.LEASE_PASSED)),
    ({"kind": "signalled", "signal": 9, "ended_by": "fenced"}, Outcome(kind="fenced", signal=9)),
    ({"kind": "signalled", "signal": 15, "ended_by": "interrupted"}, Outcome(kind="signalled", signal=15)),
]  # fmt: skip


@pytest.mark.parametrize(("message", "outcome"), OUTCOMES, ids=[str(message) for message, _ in OUTCOMES])
def test_the_reason_of_the_holder_wins_over_the_exit_status(
    message: dict[str, Any], outcome: Outcome
) -> None:
    assert translate.outcome_of(exited(**message)) == outcome


def applied(job: Job, message: dict[str, Any]) -> Job:
    """The job after its attempt has ended so."""
    told = exited(job.id, job.attempt_id or "", **message)
    return translate.Ended(told, b"", "atlas", job).applied(now=NOW, random_number=0.5)


STATES: list[tuple[dict[str, Any], str, str | None]] = [
    ({"kind": "exited", "exit_code": 0}, "completed", None),
    ({"kind": "exited", "exit_code": 7}, "failed", "exit code 7"),
    ({"kind": "signalled", "signal": 9}, "failed", "killed by signal 9"),
    ({"kind": "spawn_error", "error": "no such program"}, "failed", "no such program"),
    ({"kind": "signalled", "signal": 15, "ended_by": "timeout"}, "failed", translate.TIMED_OUT),
    ({"kind": "signalled", "signal": 15, "ended_by": "cancelled"}, "cancelled", "cancelled"),
    ({"kind": "signalled", "signal": 9, "ended_by": "lease"}, "pending", f"lost: {translate.LEASE_PASSED}"),
    ({"kind": "signalled", "signal": 15, "ended_by": "interrupted"}, "pending", INTERRUPTED),
]


@pytest.mark.parametrize(("message", "state", "error"), STATES, ids=[str(message) for message, *_ in STATES])
def test_each_end_leads_to_a_state_and_an_error_message(
    message: dict[str, Any], state: str, error: str | None
) -> None:
    job = processing("a")
    after = applied(job, message)
    assert (after.state, after.last_error) == (state, error)
    assert after.lease is None
    assert len(after.history) == 1


def test_an_interruption_is_counted_neither_as_failure_nor_as_loss() -> None:
    message = {"kind": "exited", "exit_code": 1, "ended_by": "interrupted"}
    after = applied(processing("a"), message)
    assert (after.failures, after.losses, after.attempts) == (0, 0, 1)
    assert (after.history[-1].outcome, after.history[-1].exit_code) == ("lost", 1)


def test_all_numbers_of_the_message_are_reported() -> None:
    message = {
        "kind": "exited", "exit_code": 0, "pid": 77, "started_at": EPOCH, "finished_at": EPOCH + 1.5, "user_cpu": 0.5,
        "system_cpu": 0.25, "max_rss": 4096, "output_bytes": 12, "leftovers": 2,
    }  # fmt: skip
    told = translate.report_of(exited(**message), "tail €".encode()[:-1], "atlas")
    assert (told.started_at, told.finished_at) == (NOW, NOW + timedelta(seconds=1.5))
    assert (told.host, told.pid, told.output_bytes, told.max_rss) == ("atlas", 77, 12, 4096)
    assert (told.user_cpu, told.system_cpu, told.ended_processes) == (0.5, 0.25, 2)
    assert told.output_tail == "tail \ufffd"
    assert translate.run_time(exited(**message)) == 1.5


@pytest.mark.parametrize("ended_by", ["timeout", "cancelled", "interrupted", "lease", "fenced"])
def test_processes_ended_with_their_command_are_not_counted_as_leftovers(ended_by: str) -> None:
    message = {"kind": "signalled", "signal": 15, "leftovers": 3, "ended_by": ended_by}
    assert translate.report_of(exited(**message), b"", "atlas").ended_processes == 0


def test_an_attempt_that_never_started_has_only_an_end_time() -> None:
    message = {"kind": "spawn_error", "error": "x"}
    before = datetime.now(UTC)
    told = translate.report_of(exited(**message), b"", "atlas")
    assert told.started_at is None
    assert before <= told.finished_at <= datetime.now(UTC)
    assert (told.output_bytes, told.output_tail) == (0, "")
    assert translate.run_time(exited(**message)) is None


def test_a_clock_that_was_set_back_makes_no_negative_run_time() -> None:
    assert translate.run_time(exited(kind="exited", started_at=10.0, finished_at=9.0)) == 0.0


class TestStart:
    def test_the_start_message_of_a_plain_job_has_only_required_fields(self) -> None:
        message, stdin = translate.start_message(processing("a", command="x"), deadline=12.5)
        assert to_fields(message) == {
            "type": "start", "attempt_id": "a" * 32, "job_id": "a", "attempt": 1, "queue": "default", "grace": 10.0,
            "output_limit": 1024 * 1024, "deadline": 12.5, "command": "x",
        }  # fmt: skip
        assert stdin == b""

    def test_the_start_message_of_a_full_job_has_every_field(self) -> None:
        job = processing(
            "a", argv=("x", "y"), shell="bash", cwd="/srv", env={"A": "1"}, umask=0, timeout=timedelta(seconds=1.5),
            split=True, allow_detached=True, stdin=b"in", queue="mail",
        )  # fmt: skip
        message, stdin = translate.start_message(job, deadline=0)
        given = {
            key: getattr(message, key)
            for key in ("argv", "shell", "cwd", "env", "umask", "timeout", "split", "queue")
        }
        assert given == {
            "argv": ("x", "y"), "shell": "bash", "cwd": "/srv", "env": {"A": "1"}, "umask": 0, "timeout": 1.5,
            "split": True, "queue": "mail",
        }  # fmt: skip
        assert (message.allow_detached, message.has_stdin, stdin) == (True, True, b"in")
        assert message.command is None

    def test_empty_stdin_is_sent_as_stdin(self) -> None:
        message, stdin = translate.start_message(processing("a", stdin=b""), deadline=0)
        assert (message.has_stdin, stdin) == (True, b"")

    def test_a_job_without_a_lease_cannot_be_started(self) -> None:
        with pytest.raises(AssertionError, match="only claimed jobs"):
            translate.start_message(new_job("a"), deadline=0)
