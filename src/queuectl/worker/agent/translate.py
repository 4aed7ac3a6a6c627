"""From a claimed job to the `start` message, and from the `exited` message to what the domain records."""

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Spec
from queuectl.domain.outcome import Outcome, Report
from queuectl.worker.protocol import Fields

TIMED_OUT = "ran longer than its timeout"
LEASE_PASSED = "ended by its worker: the lease could not be renewed in time"


class Ended:
    """An `exited` message on its way into the store: the report, and the job as last known (None: not read yet).

    interrupted  the worker ended the command because the worker itself was stopped
    seconds      from start to end; None if the command never started
    """

    __slots__ = ("attempt_id", "interrupted", "job", "job_id", "report", "seconds")

    def __init__(self, message: Fields, tail: bytes, host: str, job: Job | None) -> None:
        self.job_id: str = message["job_id"]
        self.attempt_id: str = message["attempt_id"]
        self.interrupted = message.get("ended_by") == "interrupted"
        self.seconds = run_time(message)
        self.report = report_of(message, tail, host)
        self.job = job

    def applied(self, *, now: datetime, random_number: float) -> Job:
        """The job after this end."""
        assert self.job is not None, "the job is read before its end is recorded"
        report = _not_before_the_claim(self.job, self.report)
        if self.interrupted:
            return lifecycle.interrupt(self.job, report, now=now)
        return lifecycle.finish(self.job, report, now=now, random_number=random_number)


def start_message(job: Job, deadline: float) -> tuple[Fields, bytes]:
    """The order to run a claimed job, and the bytes of its standard input."""
    spec, lease = job.spec, job.lease
    assert lease is not None, "only claimed jobs are started"
    message = {
        "type": "start",
        "attempt_id": lease.attempt_id,
        "job_id": job.id,
        "attempt": job.attempts,
        "queue": job.queue,
        "grace": spec.kill_grace.total_seconds(),
        "output_limit": spec.output_limit,
        "deadline": deadline,
    }
    message |= _given(spec)
    return message, spec.stdin or b""


def _given(spec: Spec) -> Fields:
    """Only what differs from the holder's defaults: most jobs have nothing but a command."""
    given: dict[str, Any] = {
        "command": spec.command,
        "argv": spec.argv,
        "shell": spec.shell,
        "cwd": spec.cwd,
        "env": spec.env or None,
        "umask": spec.umask,
        "timeout": None if spec.timeout is None else spec.timeout.total_seconds(),
        "split": spec.split or None,
        "allow_detached": spec.allow_detached or None,
        "has_stdin": True if spec.stdin is not None else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def report_of(message: Fields, tail: bytes, host: str) -> Report:
    """The report in an `exited` message."""
    return Report(
        outcome=outcome_of(message),
        started_at=_time(message.get("started_at")),
        finished_at=_time(message.get("finished_at")) or datetime.now(UTC),
        host=host,
        pid=message.get("pid"),
        user_cpu=message.get("user_cpu"),
        system_cpu=message.get("system_cpu"),
        max_rss=message.get("max_rss"),
        output_bytes=message.get("output_bytes") or 0,
        ended_processes=ended_processes(message),
        output_tail=tail.decode("utf-8", "replace").replace("\0", "\ufffd") if tail else "",
    )


def outcome_of(message: Fields) -> Outcome:
    """The outcome. What the holder did to the command counts before what the kernel reports of it."""
    ended_by, error = message.get("ended_by"), message.get("error")
    code, signal = message.get("exit_code"), message.get("signal")
    if ended_by == "timeout":
        return Outcome(kind="timed_out", exit_code=code, signal=signal, error=error or TIMED_OUT)
    if ended_by == "cancelled":
        return Outcome(kind="cancelled", exit_code=code, signal=signal, error=error)
    if ended_by == "lease":
        return Outcome(kind="lost", exit_code=code, signal=signal, error=LEASE_PASSED)
    if ended_by == "fenced":
        return Outcome(kind="fenced", exit_code=code, signal=signal)
    if message.get("kind") == "spawn_error":
        return Outcome(kind="spawn_error", error=error)
    if message.get("kind") == "signalled":
        return Outcome(kind="signalled", signal=signal, core=bool(message.get("core")))
    return Outcome(kind="exited", exit_code=code)


def run_time(message: Fields) -> float | None:
    """Seconds from start to end; None if the command never started."""
    started, finished = message.get("started_at"), message.get("finished_at")
    return None if started is None or finished is None else max(0.0, finished - started)


def ended_processes(message: Fields) -> int:
    """How many processes a command left running when it ended by itself. The holder has ended them."""
    return 0 if message.get("ended_by") else message.get("leftovers") or 0


def _not_before_the_claim(job: Job, report: Report) -> Report:
    """Shift a start that seems to be before its claim: the start is converted to the store's clock, to a few ms."""
    claimed = job.lease.claimed_at if job.lease else None
    if claimed is None or report.started_at is None or report.started_at >= claimed:
        return report
    early = claimed - report.started_at
    return replace(report, started_at=claimed, finished_at=report.finished_at + early)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
