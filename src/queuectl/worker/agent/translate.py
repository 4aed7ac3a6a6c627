"""From the holder's words to the domain's: what an `exited` message means for a job."""

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Spec
from queuectl.domain.outcome import Outcome, Report
from queuectl.worker.protocol import Fields

TIMED_OUT = "ran longer than its timeout"
LEASE_PASSED = "ended by its worker: the lease could not be renewed in time"


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
    """Only what differs from the holder's defaults: most jobs say nothing but their command."""
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
    """The report that an `exited` message carries."""
    return Report(
        outcome=outcome_of(message),
        started_at=_moment(message.get("started_at")),
        finished_at=_moment(message.get("finished_at")) or datetime.now(UTC),
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
    """The ending: what the holder did to the command counts before what the kernel says of it."""
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


def after(job: Job, message: Fields, report: Report, *, now: datetime, random_number: float) -> Job:
    """The job after this ending."""
    report = _not_before_its_claim(job, report)
    if message.get("ended_by") == "interrupted":
        return lifecycle.interrupt(job, report, now=now)
    return lifecycle.finish(job, report, now=now, random_number=random_number)


def _not_before_its_claim(job: Job, report: Report) -> Report:
    """Both times are the store's, but the start is converted: it may seem to be some milliseconds before the claim."""
    claimed = job.lease.claimed_at if job.lease else None
    if claimed is None or report.started_at is None or report.started_at >= claimed:
        return report
    early = claimed - report.started_at
    return replace(report, started_at=claimed, finished_at=report.finished_at + early)


def run_time(message: Fields) -> float | None:
    """Seconds from start to end, if it started."""
    started, finished = message.get("started_at"), message.get("finished_at")
    return None if started is None or finished is None else max(0.0, finished - started)


def ended_processes(message: Fields) -> int:
    """How many processes a command left running when it ended by itself, which were ended then."""
    return 0 if message.get("ended_by") else message.get("leftovers") or 0


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
