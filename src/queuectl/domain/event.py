"""An event: one accepted change of a job, as readers of the stream of events get it.

`between` finds the event from the job before and after the change, so no function of the life cycle knows of events.
The caller of a store passes events together with the changed jobs; the store writes them in the same step.
"""

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from queuectl.domain.job import Attempt, Cause, Job, State

Kind = Literal[
    "job.enqueued",
    "job.blocked",
    "job.held",
    "job.released",
    "job.edited",
    "job.started",
    "job.failed",
    "job.completed",
    "job.dead",
    "job.cancelled",
    "job.cancel_requested",
    "job.retried",
    "job.lost",
    "job.given_back",
    "job.deleted",
]
"""The kinds of events. `started` means claimed; `failed`: a retry follows; `lost`: the attempt ended without a result,
and the job runs again; `given_back`: the claim is undone, because the command did not start.
"""

UNWRITTEN = datetime(1970, 1, 1, tzinfo=UTC)
"""`at` of an event that no store has written yet."""


class Actor(Struct, frozen=True):
    """Who changes jobs, and by which door: `cli`, `python`, `http`, `ui` or `sql`. A worker is neither."""

    by: str | None = None
    via: str | None = None


NOBODY = Actor()


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One accepted change of a job.

    at          when the store wrote it, by the store's clock. The store sets it, and the number of a new job
    state       after the change; of a deleted job its last state
    before      the state before the change; None for a new job
    attempt     the number of the attempt that the change is about, with its id and its worker; None: no attempt
    exit_code   of the attempt that this change ended, as `signal`
    by, via     see `Actor`; None for a change by a worker
    """

    event: Kind
    at: datetime = UNWRITTEN
    job: str
    number: int = 0
    queue: str
    batch: str | None = None
    state: State
    before: State | None = None
    attempt: int | None = None
    attempt_id: str | None = None
    worker: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    cause: Cause | None = None
    by: str | None = None
    via: str | None = None


_KINDS: dict[tuple[State | None, State], Kind] = {
    (None, "pending"): "job.enqueued",
    (None, "blocked"): "job.blocked",
    (None, "held"): "job.held",
    ("pending", "processing"): "job.started",
    ("failed", "processing"): "job.started",
    ("processing", "completed"): "job.completed",
    ("processing", "failed"): "job.failed",
    ("processing", "dead"): "job.dead",
    ("processing", "cancelled"): "job.cancelled",
    ("processing", "pending"): "job.lost",
    ("pending", "held"): "job.held",
    ("failed", "held"): "job.held",
    ("blocked", "held"): "job.held",
    ("blocked", "pending"): "job.released",
    ("held", "pending"): "job.released",
    ("held", "blocked"): "job.released",
    ("pending", "cancelled"): "job.cancelled",
    ("failed", "cancelled"): "job.cancelled",
    ("blocked", "cancelled"): "job.cancelled",
    ("held", "cancelled"): "job.cancelled",
    ("dead", "pending"): "job.retried",
    ("cancelled", "pending"): "job.retried",
    ("failed", "pending"): "job.retried",
    ("completed", "pending"): "job.retried",
    ("dead", "blocked"): "job.retried",
    ("cancelled", "blocked"): "job.retried",
    ("failed", "blocked"): "job.retried",
    ("completed", "blocked"): "job.retried",
}
"""The kind of a change between two states. `_kind` has the exceptions."""


def between(before: Job | None, after: Job) -> Event | None:
    """The event of the change from `before` (None: a new job) to `after`, or None if the change is none.

    The renewal of a lease, the noted start of a command, and a parent that is waited for no longer are no events.
    """
    kind = _kind(before, after)
    if kind is None:
        return None
    ran = before if before is not None and before.lease is not None else after
    attempt = _ended(before, after)
    return Event(
        event=kind,
        job=after.id,
        number=after.number,
        queue=after.queue,
        batch=after.spec.batch,
        state=after.state,
        before=None if before is None else before.state,
        attempt=None if ran.lease is None else ran.attempts,
        attempt_id=None if ran.lease is None else ran.lease.attempt_id,
        worker=None if ran.lease is None else ran.lease.worker,
        exit_code=None if attempt is None else attempt.exit_code,
        signal=None if attempt is None else attempt.signal,
        cause=after.cancel_cause if kind == "job.cancel_requested" else after.cause,
    )


def deleted(job: Job, actor: Actor) -> Event:
    """The event of a job that a person deletes."""
    return Event(
        event="job.deleted",
        job=job.id,
        number=job.number,
        queue=job.queue,
        batch=job.spec.batch,
        state=job.state,
        before=job.state,
        by=actor.by,
        via=actor.via,
    )


def _kind(before: Job | None, after: Job) -> Kind | None:
    if before is None:
        return _KINDS.get((None, after.state))
    if before.state == after.state:
        return _kind_in_state(before, after)
    if before.attempts > after.attempts and after.state != "cancelled":
        return "job.given_back"
    if before.state == "cancelled" and before.cause == "parent" and after.state == "blocked":
        return "job.blocked"
    return _KINDS.get((before.state, after.state))


def _kind_in_state(before: Job, after: Job) -> Kind | None:
    """The kind of a change that leaves the state as it is."""
    if after.state == "processing":
        asked = after.cancel_requested is not None and after.cancel_requested != before.cancel_requested
        return "job.cancel_requested" if asked else None
    was = (before.queue, before.priority, before.run_at)
    return "job.edited" if was != (after.queue, after.priority, after.run_at) else None


def _ended(before: Job | None, after: Job) -> Attempt | None:
    """The attempt that this change ended, or None."""
    if before is None or before.lease is None or after.lease is not None or not after.history:
        return None
    last = after.history[-1]
    return last if last.attempt_id == before.lease.attempt_id else None
