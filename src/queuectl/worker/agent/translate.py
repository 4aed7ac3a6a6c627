"""Translates a claimed job into a `start` message, and an `exited` message into a report for the domain."""

import sys
from datetime import UTC, datetime

from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.hook import DELIVER
from queuectl.domain.job import Job, Spec
from queuectl.domain.outcome import Outcome, Report
from queuectl.worker.agent.progress import progress_of
from queuectl.worker.protocol import Exited, Start

TIMED_OUT = "ran longer than its timeout"
LEASE_PASSED = "ended by its worker: the lease could not be renewed in time"


class Ended:
    """The data of an `exited` message that is not stored yet: its report, and the job (None if it was not read yet).

    interrupted  the worker ended the command because the worker itself was stopped
    seconds      from start to end; None if the command never started
    """

    __slots__ = ("attempt_id", "interrupted", "job", "job_id", "report", "seconds")

    def __init__(self, message: Exited, tail: bytes, host: str, job: Job | None) -> None:
        self.job_id = message.job_id
        self.attempt_id = message.attempt_id
        self.interrupted = message.ended_by == "interrupted"
        self.seconds = run_time(message)
        self.report = report_of(message, tail, host)
        self.job = job

    def applied(self, *, now: datetime, random_number: float) -> Job:
        """The job after this result."""
        assert self.job is not None, "the job is read before its end is recorded"
        report = _not_before_the_claim(self.job, self.report)
        if self.interrupted:
            return lifecycle.interrupt(self.job, report, now=now)
        return lifecycle.finish(self.job, report, now=now, random_number=random_number)


def start_message(job: Job, deadline: float) -> tuple[Start, bytes]:
    """The `start` message for a claimed job, and the bytes of its standard input."""
    spec, lease = job.spec, job.lease
    assert lease is not None, "only claimed jobs are started"
    message = Start(
        attempt_id=lease.attempt_id,
        job_id=job.id,
        attempt=job.attempts,
        queue=job.queue,
        grace=spec.kill_grace.total_seconds(),
        output_limit=spec.output_limit,
        deadline=deadline,
        command=spec.command,
        argv=_argv(spec),
        shell=spec.shell,
        cwd=spec.cwd,
        env=_environment(job) or None,
        umask=spec.umask,
        timeout=None if spec.timeout is None else spec.timeout.total_seconds(),
        split=spec.split,
        allow_detached=spec.allow_detached,
        has_stdin=spec.stdin is not None,
    )
    return message, spec.stdin or b""


def _argv(spec: Spec) -> tuple[str, ...] | None:
    """The arguments. The delivery of a webhook runs the program of this worker, wherever it is on this host."""
    if spec.argv is None or spec.argv[:3] != DELIVER:
        return spec.argv
    return (sys.executable, "-P", "-m", *spec.argv)


def _environment(job: Job) -> dict[str, str]:
    """The variables of the job, and those that tell a command its schedule, its instant and its lateness in seconds."""
    spec = job.spec
    if spec.schedule is None or spec.instant is None:
        return spec.env
    claimed = job.lease.claimed_at if job.lease else spec.instant
    late = max(0, int((claimed - spec.instant).total_seconds()))
    return {
        **spec.env,
        "QUEUECTL_SCHEDULE": spec.schedule,
        "QUEUECTL_SCHEDULED_FOR": f"{spec.instant:%Y-%m-%dT%H:%M:%SZ}",
        "QUEUECTL_LATE": str(late),
    }


def report_of(message: Exited, tail: bytes, host: str) -> Report:
    """The report that an `exited` message contains."""
    return Report(
        outcome=outcome_of(message),
        started_at=_time(message.started_at),
        finished_at=_time(message.finished_at) or datetime.now(UTC),
        host=host,
        pid=message.pid,
        user_cpu=message.user_cpu,
        system_cpu=message.system_cpu,
        max_rss=message.max_rss,
        output_bytes=message.output_bytes,
        ended_processes=ended_processes(message),
        output_tail=tail.decode("utf-8", "replace").replace("\0", "\ufffd") if tail else "",
        progress=progress_of(message.progress, message.progress["at"]) if message.progress else None,
    )


def outcome_of(message: Exited) -> Outcome:
    """The outcome. If the holder ended the command, its reason decides; otherwise the kernel's report does."""
    ended_by, error = message.ended_by, message.error
    code, signal = message.exit_code, message.signal
    if ended_by == "timeout":
        return Outcome(kind="timed_out", exit_code=code, signal=signal, error=error or TIMED_OUT)
    if ended_by == "cancelled":
        return Outcome(kind="cancelled", exit_code=code, signal=signal, error=error)
    if ended_by == "lease":
        return Outcome(kind="lost", exit_code=code, signal=signal, error=LEASE_PASSED)
    if ended_by == "fenced":
        return Outcome(kind="fenced", exit_code=code, signal=signal)
    if message.kind == "spawn_error":
        return Outcome(kind="spawn_error", error=error)
    if message.kind == "signalled":
        return Outcome(kind="signalled", signal=signal, core=message.core)
    return Outcome(kind="exited", exit_code=code)


def run_time(message: Exited) -> float | None:
    """The run time in seconds, or None if the command never started."""
    started, finished = message.started_at, message.finished_at
    return None if started is None or finished is None else max(0.0, finished - started)


def ended_processes(message: Exited) -> int:
    """How many processes a command left running when it ended by itself. The holder has ended them."""
    return 0 if message.ended_by else message.leftovers


def _not_before_the_claim(job: Job, report: Report) -> Report:
    """Shift a start that seems to be before its claim: the conversion to the store's clock errs by a few ms."""
    claimed = job.lease.claimed_at if job.lease else None
    if claimed is None or report.started_at is None or report.started_at >= claimed:
        return report
    early = claimed - report.started_at
    return replace(report, started_at=claimed, finished_at=report.finished_at + early)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
