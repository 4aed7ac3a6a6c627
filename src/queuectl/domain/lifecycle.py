"""The life cycle of a job: one table of all transitions between states, and one function per event.

Every change of a job is one of these functions, from job to job; the result is saved by compare-and-swap. Only `claim`
exists a second time, in each driver, because it must be one atomic step there. An event that the table does not allow
raises `Conflict` with a sentence for people. Nothing here reads a clock or a source of random numbers.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain import dependency
from queuectl.domain.ids import handle
from queuectl.domain.job import (
    HISTORY_KEPT,
    WAITING,
    Attempt,
    CancelRequest,
    Cause,
    Job,
    Lease,
    Progress,
    Spec,
    State,
    sort_key,
)
from queuectl.domain.outcome import INTERRUPTED, Outcome, Report
from queuectl.errors import Conflict


class Arrow(Struct, frozen=True):
    """One permitted transition: `event` takes a job from `source` (None: a new job) to `target`, if `when` is true."""

    event: str
    source: State | None
    target: State
    when: str


CRASH_LOOP = "crash loop"

NO_PARENTS: Mapping[str, State] = {}

ARROWS: tuple[Arrow, ...] = (
    Arrow("enqueue", None, "pending", "enqueued"),
    Arrow("enqueue", None, "blocked", "enqueued while parents have not ended as wanted"),
    Arrow("enqueue", None, "held", "enqueued with --hold"),
    Arrow("unblock", "blocked", "pending", "every parent ended as wanted"),
    Arrow("unblock", "blocked", "cancelled", "a parent ended otherwise (the default)"),
    Arrow("unblock", "blocked", "held", "a parent ended otherwise (after_failure: hold)"),
    Arrow("unblock", "held", "pending", "held by after_failure, and its parents, retried, ended as wanted"),
    Arrow(
        "revive",
        "cancelled",
        "blocked",
        "cancelled because of a parent (cause: parent), and a person retries that",
    ),
    Arrow("hold", "pending", "held", "held by a person"),
    Arrow("hold", "failed", "held", "held by a person"),
    Arrow("hold", "blocked", "held", "held by a person"),
    Arrow("release", "held", "pending", "released"),
    Arrow("release", "held", "blocked", "released while parents have not ended as wanted"),
    Arrow("edit", "pending", "pending", "priority, time or queue changed by a person"),
    Arrow("edit", "failed", "failed", "priority, time or queue changed by a person"),
    Arrow("edit", "blocked", "blocked", "priority, time or queue changed by a person"),
    Arrow("edit", "held", "held", "priority, time or queue changed by a person"),
    Arrow("claim", "pending", "processing", "claimed when due"),
    Arrow("claim", "failed", "processing", "claimed when due"),
    Arrow("finish", "processing", "completed", "exit code 0"),
    Arrow("finish", "processing", "failed", "any other outcome, retries left"),
    Arrow("finish", "processing", "dead", "any other outcome, no retries left"),
    Arrow("finish", "processing", "cancelled", "cancel requested, and the process tree is gone"),
    Arrow("give_back", "processing", "pending", "claimed but provably never started: not counted"),
    Arrow("give_back", "processing", "failed", "as before, and it was waiting for a retry: not counted"),
    Arrow("give_back", "processing", "cancelled", "as before, and a cancel was requested"),
    Arrow("interrupt", "processing", "pending", "ended because its worker was told to stop at once"),
    Arrow("interrupt", "processing", "cancelled", "as before, and a cancel was requested"),
    Arrow("lose", "processing", "pending", "lost, within max_losses"),
    Arrow("lose", "processing", "dead", "lost too often: crash loop"),
    Arrow("lose", "processing", "cancelled", "lost, and a cancel was requested"),
    Arrow("cancel", "pending", "cancelled", "cancelled"),
    Arrow("cancel", "failed", "cancelled", "cancelled"),
    Arrow("cancel", "blocked", "cancelled", "cancelled"),
    Arrow("cancel", "held", "cancelled", "cancelled"),
    Arrow("cancel", "processing", "processing", "cancel requested; the worker ends the process tree"),
    Arrow("retry", "dead", "pending", "retried by a person: with a new retry budget"),
    Arrow("retry", "cancelled", "pending", "retried by a person: with a new retry budget"),
    Arrow("retry", "failed", "pending", "retried by a person: with a new retry budget"),
    Arrow("retry", "dead", "blocked", "the same, and parents have not, or no longer, ended as wanted"),
    Arrow("retry", "cancelled", "blocked", "the same, and parents have not, or no longer, ended as wanted"),
    Arrow("retry", "failed", "blocked", "the same, and parents have not, or no longer, ended as wanted"),
    Arrow("force_retry", "completed", "pending", "retried by a person with --force"),
    Arrow("force_retry", "completed", "blocked", "the same, and parents have no longer ended as wanted"),
)

_ALLOWED = frozenset((arrow.event, arrow.source, arrow.target) for arrow in ARROWS)
_SOURCES = frozenset((arrow.event, arrow.source) for arrow in ARROWS)

_REFUSALS = {
    "hold": "only jobs that wait can be held",
    "release": "only held jobs can be released",
    "edit": "only jobs that have not started can be edited",
    "cancel": "it has ended already",
    "retry": "only dead, cancelled and failed jobs can be retried",
}


def enqueue(
    *,
    id: str,
    spec: Spec,
    queue: str,
    priority: int,
    run_at: datetime,
    waiting_for: tuple[str, ...],
    hold: bool,
    now: datetime,
) -> Job:
    """A new job. `run_at` is its earliest start; `waiting_for` are the parents that have not ended as wanted."""
    state: State = "held" if hold else "blocked" if waiting_for else "pending"
    return Job(
        id=id,
        spec=spec,
        queue=queue,
        priority=priority,
        state=state,
        run_at=run_at,
        sort_key=sort_key(run_at, priority, spec.boost),
        waiting_for=waiting_for,
        cause="person" if hold else None,
        created_at=now,
        updated_at=now,
    )


def with_parents(job: Job, parents: Mapping[str, State]) -> Job:
    """A copy of a new job that waits only for those parents that have not ended as wanted.

    A parent that ended otherwise stays in `waiting_for`; `unblock` then cancels the job. So the job is stored, and
    its end can be explained.
    """
    waiting = dependency.still_waiting(job.spec.after, parents)
    if job.state != "blocked":
        return replace(job, waiting_for=waiting)
    return replace(job, waiting_for=waiting, state="blocked" if waiting else "pending")


def is_due(job: Job, now: datetime) -> bool:
    """Whether a worker may claim the job (if its queue is neither paused nor full)."""
    return job.state in WAITING and job.run_at <= now


def claim(job: Job, *, attempt_id: str, worker: str, lease: timedelta, now: datetime) -> Job:
    """Claim the job for a worker: count the attempt and begin its lease. The `claim` of each driver does the same."""
    taken = Lease(attempt_id=attempt_id, worker=worker, claimed_at=now, until=now + lease)
    return _move(job, "claim", "processing", now, attempts=job.attempts + 1, lease=taken, progress=None)


def renew(job: Job, *, lease: timedelta, now: datetime, progress: Progress | None = None) -> Job:
    """Extend the lease, and note a new progress. The state does not change. Storing the job raises the version."""
    held = replace(_lease_of(job), until=now + lease)
    return replace(job, lease=held, updated_at=now, progress=progress or job.progress)


def note_start(job: Job, *, slot: int, pid: int, started_at: datetime, now: datetime) -> Job:
    """Record the start of the command. Only people need this; no decision depends on it."""
    running = replace(_lease_of(job), slot=slot, pid=pid, started_at=started_at)
    return replace(job, lease=running, started_at=started_at, updated_at=now)


def finish(job: Job, report: Report, *, now: datetime, random_number: float) -> Job:
    """End the attempt with the outcome in `report`. `random_number` in [0, 1) decides the jitter of a retry."""
    outcome = report.outcome
    if outcome.kind == "lost":
        return lose(job, report, now=now)
    ended = _record(job, report)
    if outcome.succeeded:
        return _end(ended, "finish", "completed", now, last_error=None)
    if outcome.kind == "cancelled" or job.cancel_requested:
        return _end(ended, "finish", "cancelled", now, cause=job.cancel_cause, last_error=job.cancel_words)
    return _fail(ended, outcome, now, random_number)


def give_back(job: Job, *, now: datetime) -> Job:
    """Undo the claim of a job whose command certainly did not start: the attempt is not counted (guarantee G8)."""
    if job.cancel_requested:
        job = replace(job, attempts=job.attempts - 1)
        return _end(job, "give_back", "cancelled", now, cause=job.cancel_cause, last_error=job.cancel_words)
    back: State = "failed" if job.failures else "pending"
    return _move(job, "give_back", back, now, attempts=job.attempts - 1, lease=None)


def interrupt(job: Job, report: Report, *, now: datetime, why: str = INTERRUPTED) -> Job:
    """End an attempt whose worker had to stop at once. The attempt counts neither as a failure nor as a loss."""
    lost = Outcome(kind="lost", error=why, exit_code=report.outcome.exit_code, signal=report.outcome.signal)
    ended = _record(job, replace(report, outcome=lost))
    if job.cancel_requested:
        return _end(ended, "interrupt", "cancelled", now, cause=job.cancel_cause, last_error=job.cancel_words)
    return _move(ended, "interrupt", "pending", now, last_error=why)


def lose(job: Job, report: Report, *, now: datetime) -> Job:
    """End an attempt that was lost to a crash. Losses have their own budget (guarantee G8). The sort key is kept."""
    losses = job.losses + 1
    ended = replace(_record(job, report), losses=losses)
    why = report.outcome.describe()
    if job.cancel_requested:
        return _end(ended, "lose", "cancelled", now, cause=job.cancel_cause, last_error=job.cancel_words)
    if losses > job.spec.retry.max_losses:
        often = "once" if losses == 1 else f"{losses} times"
        return _end(ended, "lose", "dead", now, last_error=f"{CRASH_LOOP}: lost {often}, last: {why}")
    return _move(ended, "lose", "pending", now, last_error=f"lost: {why}")


def cancel(job: Job, *, by: str, reason: str | None, now: datetime, cause: Cause = "person") -> Job:
    """Cancel the job. A running job is only marked; its worker then ends the process tree. Idempotent.

    A second request for a running job replaces the first one.
    """
    if job.state == "cancelled":
        return job
    _check(job, "cancel")
    request = CancelRequest(by=by, at=now, reason=reason, cause=cause)
    if job.state == "processing":
        return _move(job, "cancel", "processing", now, cancel_requested=request)
    job = replace(job, cancel_requested=request)
    return _end(job, "cancel", "cancelled", now, cause=job.cancel_cause, last_error=job.cancel_words)


def retry(
    job: Job,
    parents: Mapping[str, State] = NO_PARENTS,
    *,
    now: datetime,
    force: bool = False,
    alone: bool = False,
) -> Job:
    """Let the job run again with a new retry budget. History and attempt numbers continue.

    It waits for the parents whose present state is not as wanted; `parents` has the states of the parents that exist.
    With `alone` it waits for none.
    """
    if job.state == "completed" and not force:
        raise Conflict(
            f"job {handle(job)} is completed",
            f"to run it again anyway: queuectl retry --force {handle(job)}",
        )
    event = "force_retry" if job.state == "completed" else "retry"
    _check(job, event)
    waiting = () if alone else dependency.unmet_after_retry(job, parents)
    impossible = dependency.impossible(replace(job, waiting_for=waiting), parents)
    if impossible:
        raise Conflict(
            dependency.impossible_text(job, impossible[0], parents),
            dependency.retry_hint(job, impossible[0], parents),
        )
    fresh = replace(_reset(job), waiting_for=waiting)
    if waiting:
        return _move(fresh, event, "blocked", now, run_at=now)
    return _ready(fresh, event, now)


def revive(job: Job, parents: Mapping[str, State], *, now: datetime) -> Job:
    """Let a job that was cancelled because of a parent wait again, because a person retried that parent.

    It stays unchanged while another of its parents cannot end as wanted.
    """
    _check(job, "revive")
    if job.cause != "parent":
        raise Conflict(f"job {handle(job)} was not cancelled because of a parent")
    if dependency.impossible(job, parents):
        return job
    return _move(_reset(job), "revive", "blocked", now, last_error=None)


def hold(job: Job, *, now: datetime) -> Job:
    """Keep the job from starting until it is released. Idempotent."""
    if job.state == "held":
        return job
    return _move(job, "hold", "held", now, cause="person")


def release(
    job: Job, parents: Mapping[str, State] = NO_PARENTS, *, now: datetime, anyway: bool = False
) -> Job:
    """Release the job. It starts when due, after its parents ended as wanted; `anyway`: ignore the parents.

    Raises Conflict if a parent can no longer end as wanted, because the job would wait without end.
    """
    _check(job, "release")
    if job.is_arriving:  # it may have run before the export
        raise Conflict(f"job {handle(job)} is held: an import has not finished it", "repeat the same import")
    waiting = () if anyway else dependency.unmet(job, parents)
    impossible = () if anyway else dependency.impossible(job, parents)
    if impossible:
        raise Conflict(
            f"{dependency.impossible_text(job, impossible[0], parents)}: it stays held",
            f"queuectl release --anyway {handle(job)} runs it without its parents",
        )
    error = None if job.cause in ("parent", "skipped") else job.last_error
    free = replace(job, waiting_for=waiting, last_error=error)
    if waiting:
        return _move(free, "release", "blocked", now)
    return _ready(free, "release", now)


def edit(job: Job, *, priority: int | None, run_at: datetime | None, queue: str | None, now: datetime) -> Job:
    """Change the priority, start time or queue of a job that has not been claimed."""
    when = run_at or job.run_at
    rank = job.priority if priority is None else priority
    key = sort_key(when, rank, job.spec.boost)
    changes = {"priority": rank, "run_at": when, "sort_key": key, "queue": queue or job.queue}
    return _move(job, "edit", job.state, now, cause=job.cause, **changes)


def unblock(job: Job, parents: Mapping[str, State], *, now: datetime) -> Job:
    """Check a blocked or held job against the states of its parents that exist.

    The job stays unchanged if the states decide nothing. A parent that ended as wanted is removed from `waiting_for`
    and never checked again, because it may be retried or deleted later. A parent in `waiting_for` that was deleted
    can never end as wanted. A held job is released only if it is held because of its parents.
    """
    waiting, impossible = dependency.unmet(job, parents), dependency.impossible(job, parents)
    by_parents = job.cause in ("parent", "skipped")
    if impossible and job.state != "held":
        return _stop_waiting(replace(job, waiting_for=waiting), impossible[0], parents, now)
    if not waiting and (job.state != "held" or by_parents):
        error = None if by_parents else job.last_error
        return _ready(replace(job, waiting_for=(), last_error=error), "unblock", now)
    return job if waiting == job.waiting_for else replace(job, waiting_for=waiting, updated_at=now)


def holds_lease(job: Job, attempt_id: str) -> bool:
    """The fence (guarantee G3): whether this attempt may still report on the job."""
    return job.state == "processing" and job.lease is not None and job.lease.attempt_id == attempt_id


def is_given_up(recorded: Attempt, outcome: Outcome) -> bool:
    """Whether another worker recorded an attempt as lost although it ended with `outcome` on its own worker."""
    return recorded.outcome == "lost" and recorded.error not in (INTERRUPTED, outcome.error)


def _stop_waiting(job: Job, parent: str, parents: Mapping[str, State], now: datetime) -> Job:
    """Cancel or hold the job. It keeps `waiting_for`, so that it is found when a person retries that parent."""
    ended = f"ended as {parents[parent]}" if parent in parents else "was deleted"
    why = f"parent {parent} {ended}"
    cause: Cause = "skipped" if parents.get(parent) == "completed" else "parent"
    if job.spec.after_failure == "hold":
        return _move(job, "unblock", "held", now, cause=cause, last_error=why)
    waiting = job.waiting_for
    return _end(job, "unblock", "cancelled", now, cause=cause, last_error=why, waiting_for=waiting)


def _reset(job: Job) -> Job:
    """The job with a new retry budget and without the result of its last run."""
    return replace(
        job, failures=0, losses=0, cancel_requested=None, exit_code=None, finished_at=None, progress=None
    )


def _fail(job: Job, outcome: Outcome, now: datetime, random_number: float) -> Job:
    policy, failures = job.spec.retry, job.failures + 1
    job = replace(job, failures=failures, last_error=outcome.describe())
    if not policy.allows(failures, outcome.exit_code if outcome.kind == "exited" else None):
        return _end(job, "finish", "dead", now)
    run_at = now + policy.delay(failures, random_number)
    key = sort_key(run_at, job.priority, job.spec.boost)
    return _move(job, "finish", "failed", now, run_at=run_at, sort_key=key)


def _record(job: Job, report: Report) -> Job:
    """Add the finished attempt to the history, and end the lease."""
    history, dropped = (*job.history, _attempt(job, _lease_of(job), report)), job.history_dropped
    if len(history) > HISTORY_KEPT:
        history, dropped = history[1:], dropped + 1
    return replace(
        job,
        history=history,
        history_dropped=dropped,
        lease=None,
        exit_code=report.outcome.exit_code,
        output_tail=report.output_tail,
        progress=report.progress or job.progress,
        started_at=report.started_at or job.started_at,
    )


def _attempt(job: Job, lease: Lease, report: Report) -> Attempt:
    outcome, started_at = report.outcome, report.started_at or lease.started_at
    return Attempt(
        attempt=job.attempts,
        attempt_id=lease.attempt_id,
        worker=lease.worker,
        host=report.host,
        pid=report.pid if report.pid is not None else lease.pid,
        claimed_at=lease.claimed_at,
        started_at=started_at,
        finished_at=max(report.finished_at, started_at) if started_at else report.finished_at,
        outcome=outcome.kind,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        error=outcome.error,
        user_cpu=report.user_cpu,
        system_cpu=report.system_cpu,
        max_rss=report.max_rss,
        output_bytes=report.output_bytes,
        ended_processes=report.ended_processes,
    )


def _ready(job: Job, event: str, now: datetime) -> Job:
    """Move the job to `pending`, with the sort key of the time at which it becomes ready."""
    run_at = max(job.run_at, now) if event != "retry" and event != "force_retry" else now
    return _move(
        job, event, "pending", now, run_at=run_at, sort_key=sort_key(run_at, job.priority, job.spec.boost)
    )


def _end(
    job: Job, event: str, target: State, now: datetime, *, cause: Cause | None = None, **changes: Any
) -> Job:
    ending = {"lease": None, "waiting_for": (), "finished_at": now, **changes}
    return _move(job, event, target, now, cause=cause, **ending)


def _move(
    job: Job, event: str, target: State, now: datetime, *, cause: Cause | None = None, **changes: Any
) -> Job:
    if (event, job.state, target) not in _ALLOWED:
        _check(job, event)
        raise Conflict(f"job {handle(job)} cannot go from {job.state} to {target} by {event}")
    return replace(job, state=target, updated_at=now, cause=cause, **changes)


def _check(job: Job, event: str) -> None:
    if (event, job.state) not in _SOURCES:
        why = _REFUSALS.get(event, f"{event} does not apply")
        raise Conflict(
            f"job {handle(job)} is {job.state}: {why}",
            f"queuectl explain {handle(job)} shows what can be done",
        )


def _lease_of(job: Job) -> Lease:
    if job.lease is None:
        raise Conflict(f"job {handle(job)} is {job.state}: no attempt of it runs")
    return job.lease
