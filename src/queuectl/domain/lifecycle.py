"""The life of a job: which state follows which, and when. One table, and one function for each event.

Every change of a job in this system is one of these functions, from job to job, saved by compare-and-swap. Only
`claim` exists a second time, inside each driver, because it has to be one atomic step there. An event that the table
does not allow raises `Conflict` with a sentence for the person who asked; nothing here reads a clock or chance.
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
    Spec,
    State,
    sort_key,
)
from queuectl.domain.outcome import INTERRUPTED, Outcome, Report
from queuectl.errors import Conflict


class Arrow(Struct, frozen=True):
    """One permitted change: `event` takes a job from `source` (None: it is new) to `target`, when `when` holds."""

    event: str
    source: State | None
    target: State
    when: str


CRASH_LOOP = "crash loop"

NO_PARENTS: Mapping[str, State] = {}

ARROWS: tuple[Arrow, ...] = (
    Arrow("enqueue", None, "pending", "enqueued"),
    Arrow("enqueue", None, "blocked", "enqueued behind parents that have not ended as wanted"),
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
    Arrow("retry", "dead", "pending", "retried by a person: the retry budget starts anew"),
    Arrow("retry", "cancelled", "pending", "retried by a person: the retry budget starts anew"),
    Arrow("retry", "failed", "pending", "retried by a person: the retry budget starts anew"),
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
    """A new job. `run_at` is its earliest start; `waiting_for` the parents that have not ended as wanted."""
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


def place(job: Job, parents: Mapping[str, State]) -> Job:
    """A new job again, before it is stored, with what is known of its parents: those that ended as wanted are done.

    A parent that ended otherwise is left to `unblock`, so that the job is stored and its end can be explained.
    """
    waiting = dependency.still_waiting(job.spec.after, parents)
    if job.state != "blocked":
        return replace(job, waiting_for=waiting)
    return replace(job, waiting_for=waiting, state="blocked" if waiting else "pending")


def is_due(job: Job, now: datetime) -> bool:
    """Whether a worker may claim the job (if its queue is neither paused nor full)."""
    return job.state in WAITING and job.run_at <= now


def claim(job: Job, *, attempt_id: str, worker: str, lease: timedelta, now: datetime) -> Job:
    """Taken by a worker: the attempt is counted and its lease runs. Every driver's `claim` does exactly this."""
    held = Lease(attempt_id=attempt_id, worker=worker, claimed_at=now, until=now + lease)
    return _move(job, "claim", "processing", now, attempts=job.attempts + 1, lease=held)


def renew(job: Job, *, lease: timedelta, now: datetime) -> Job:
    """The lease begins again. No event: the state stays, and every renewal bumps the version when it is stored."""
    held = _lease_of(job)
    return replace(job, lease=replace(held, until=now + lease), updated_at=now)


def note_start(job: Job, *, slot: int, pid: int, started_at: datetime, now: datetime) -> Job:
    """The command runs: for people who look, nothing depends on it."""
    held = replace(_lease_of(job), slot=slot, pid=pid, started_at=started_at)
    return replace(job, lease=held, started_at=started_at, updated_at=now)


def finish(job: Job, report: Report, *, now: datetime, chance: float) -> Job:
    """The attempt that holds the lease ended as `report` says. `chance` in [0, 1) spreads the retry delay."""
    outcome = report.outcome
    if outcome.kind == "lost":
        return lose(job, report, now=now)
    ended = _record(job, report)
    if outcome.succeeded:
        return _end(ended, "finish", "completed", now, last_error=None)
    if outcome.kind == "cancelled" or job.cancel_requested:
        return _end(ended, "finish", "cancelled", now, cause="person", last_error=_cancel_words(job))
    return _fail(ended, outcome, now, chance)


def give_back(job: Job, *, now: datetime) -> Job:
    """Claimed and provably never started: as if it had not been claimed (guarantee G8)."""
    if job.cancel_requested:
        job = replace(job, attempts=job.attempts - 1)
        return _end(job, "give_back", "cancelled", now, cause="person", last_error=_cancel_words(job))
    back: State = "failed" if job.failures else "pending"
    return _move(job, "give_back", back, now, attempts=job.attempts - 1, lease=None)


def interrupt(job: Job, report: Report, *, now: datetime) -> Job:
    """Ended because the worker had to stop at once. Neither a failure nor a loss: it starts again elsewhere."""
    lost = Outcome(
        kind="lost", error=INTERRUPTED, exit_code=report.outcome.exit_code, signal=report.outcome.signal
    )
    ended = _record(job, replace(report, outcome=lost))
    if job.cancel_requested:
        return _end(ended, "interrupt", "cancelled", now, cause="person", last_error=_cancel_words(job))
    return _move(ended, "interrupt", "pending", now, last_error=INTERRUPTED)


def lose(job: Job, report: Report, *, now: datetime) -> Job:
    """The attempt was lost to a crash. Losses have their own budget (guarantee G8); its place in the line stays."""
    losses = job.losses + 1
    ended = replace(_record(job, report), losses=losses)
    why = report.outcome.describe()
    if job.cancel_requested:
        return _end(ended, "lose", "cancelled", now, cause="person", last_error=_cancel_words(job))
    if losses > job.spec.retry.max_losses:
        often = "once" if losses == 1 else f"{losses} times"
        return _end(ended, "lose", "dead", now, last_error=f"{CRASH_LOOP}: lost {often}, last: {why}")
    return _move(ended, "lose", "pending", now, last_error=f"lost: {why}")


def cancel(job: Job, *, by: str, reason: str | None, now: datetime) -> Job:
    """Never to start again. A running job is only marked: its worker ends the tree and reports. Twice is once."""
    if job.state == "cancelled":
        return job
    _check(job, "cancel")
    request = CancelRequest(by=by, at=now, reason=reason)
    if job.state == "processing":
        return _move(job, "cancel", "processing", now, cancel_requested=request)
    job = replace(job, cancel_requested=request)
    return _end(job, "cancel", "cancelled", now, cause="person", last_error=_cancel_words(job))


def retry(
    job: Job,
    parents: Mapping[str, State] = NO_PARENTS,
    *,
    now: datetime,
    force: bool = False,
    alone: bool = False,
) -> Job:
    """Run once more with a new retry budget; history and attempt numbers go on.

    At once, or behind the parents that have not, or no longer, ended as wanted; `parents` has the states of those that
    exist. With `alone` no parent is waited for.
    """
    if job.state == "completed" and not force:
        raise Conflict(
            f"job {handle(job)} is completed",
            f"to run it again all the same: queuectl retry --force {handle(job)}",
        )
    event = "force_retry" if job.state == "completed" else "retry"
    _check(job, event)
    waiting = () if alone else dependency.to_wait_for_again(job, parents)
    vain = dependency.in_vain(replace(job, waiting_for=waiting), parents)
    if vain:
        raise Conflict(
            dependency.vain_words(job, vain[0], parents), dependency.retry_hint(job, vain[0], parents)
        )
    fresh = replace(_anew(job), waiting_for=waiting)
    if waiting:
        return _move(fresh, event, "blocked", now, run_at=now)
    return _ready(fresh, event, now)


def revive(job: Job, parents: Mapping[str, State], *, now: datetime) -> Job:
    """A job that was cancelled because of a parent waits again, as a person has retried that parent.

    Unchanged while another of its parents stands in the way.
    """
    _check(job, "revive")
    if job.cause != "parent":
        raise Conflict(f"job {handle(job)} was not cancelled because of a parent")
    if dependency.in_vain(job, parents):
        return job
    return _move(_anew(job), "revive", "blocked", now, last_error=None)


def hold(job: Job, *, now: datetime) -> Job:
    """Not to start until it is released. Idempotent."""
    if job.state == "held":
        return job
    return _move(job, "hold", "held", now, cause="person")


def release(
    job: Job, parents: Mapping[str, State] = NO_PARENTS, *, now: datetime, anyway: bool = False
) -> Job:
    """May start when due: behind its parents, if some have not ended as wanted; with `anyway` without them.

    Refused when a parent ended otherwise than wanted: then it would wait in vain.
    """
    _check(job, "release")
    waiting = () if anyway else dependency.unmet(job, parents)
    vain = () if anyway else dependency.in_vain(job, parents)
    if vain:
        raise Conflict(
            f"{dependency.vain_words(job, vain[0], parents)}: it stays held",
            f"queuectl release --anyway {handle(job)} runs it without its parents",
        )
    error = None if job.cause in ("parent", "skipped") else job.last_error
    free = replace(job, waiting_for=waiting, last_error=error)
    if waiting:
        return _move(free, "release", "blocked", now)
    return _ready(free, "release", now)


def edit(job: Job, *, priority: int | None, run_at: datetime | None, queue: str | None, now: datetime) -> Job:
    """Another priority, start time or queue for a job that has not been claimed."""
    when = run_at or job.run_at
    rank = job.priority if priority is None else priority
    key = sort_key(when, rank, job.spec.boost)
    changes = {"priority": rank, "run_at": when, "sort_key": key, "queue": queue or job.queue}
    return _move(job, "edit", job.state, now, cause=job.cause, **changes)


def unblock(job: Job, parents: Mapping[str, State], *, now: datetime) -> Job:
    """Look again at a blocked or held job, given the states of all its parents that exist.

    Unchanged while nothing is to do. Parents that ended as wanted are crossed off, and are not asked again: they may be
    retried or deleted later. A parent that is waited for and is gone will never end as wanted. A held job is only
    released if it is held because of its parents.
    """
    waiting, vain = dependency.unmet(job, parents), dependency.in_vain(job, parents)
    by_parents = job.cause in ("parent", "skipped")
    if vain and job.state != "held":
        return _in_vain(replace(job, waiting_for=waiting), vain[0], parents, now)
    if not waiting and (job.state != "held" or by_parents):
        error = None if by_parents else job.last_error
        return _ready(replace(job, waiting_for=(), last_error=error), "unblock", now)
    return job if waiting == job.waiting_for else replace(job, waiting_for=waiting, updated_at=now)


def holds_lease(job: Job, attempt_id: str) -> bool:
    """The fence (guarantee G3): whether this attempt may still report on the job."""
    return job.state == "processing" and job.lease is not None and job.lease.attempt_id == attempt_id


def is_given_up(past: Attempt, outcome: Outcome) -> bool:
    """Whether somebody else recorded an attempt as lost whose end the worker itself saw as `outcome`."""
    return past.outcome == "lost" and past.error not in (INTERRUPTED, outcome.error)


def _in_vain(job: Job, parent: str, parents: Mapping[str, State], now: datetime) -> Job:
    """It keeps for whom it waits: so it is found when a person retries that parent."""
    why = f"parent {parent} ended as {parents[parent]}" if parent in parents else f"parent {parent} is gone"
    cause: Cause = "skipped" if parents.get(parent) == "completed" else "parent"
    if job.spec.after_failure == "hold":
        return _move(job, "unblock", "held", now, cause=cause, last_error=why)
    waiting = job.waiting_for
    return _end(job, "unblock", "cancelled", now, cause=cause, last_error=why, waiting_for=waiting)


def _anew(job: Job) -> Job:
    """With a new retry budget, and without its end."""
    return replace(job, failures=0, losses=0, cancel_requested=None, exit_code=None, finished_at=None)


def _fail(job: Job, outcome: Outcome, now: datetime, chance: float) -> Job:
    policy, failures = job.spec.retry, job.failures + 1
    job = replace(job, failures=failures, last_error=outcome.describe())
    if not policy.allows(failures, outcome.exit_code if outcome.kind == "exited" else None):
        return _end(job, "finish", "dead", now)
    run_at = now + policy.delay(failures, chance)
    key = sort_key(run_at, job.priority, job.spec.boost)
    return _move(job, "finish", "failed", now, run_at=run_at, sort_key=key)


def _record(job: Job, report: Report) -> Job:
    """The attempt enters the history; the lease ends."""
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
    """To `pending`, with the place in the line that belongs to the moment it becomes ready."""
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
            f"queuectl explain {handle(job)} says what can be done",
        )


def _lease_of(job: Job) -> Lease:
    if job.lease is None:
        raise Conflict(f"job {handle(job)} is {job.state}: no attempt of it runs")
    return job.lease


def _cancel_words(job: Job) -> str:
    request = job.cancel_requested
    if request is None:
        return "cancelled"
    return f"cancelled by {request.by}" + (f": {request.reason}" if request.reason else "")
