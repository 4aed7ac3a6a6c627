"""One encoding for all drivers: a job as a row of plain values, its nested parts as JSON, times as integers.

A time in a column is a whole number of microseconds since 1970, so that every store orders and compares it
alike and nothing is rounded. `spec` is a text of its own because it is written once; what changes of a job is
`changing(job)`. Decoders are built at their first use: a short command pays only for those it needs.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from msgspec import DecodeError
from msgspec.json import Decoder, Encoder

from queuectl.domain import lifecycle
from queuectl.domain.job import WAITING, Attempt, CancelRequest, Job, Lease, Spec
from queuectl.domain.query import Sort
from queuectl.domain.retry import RetryPolicy
from queuectl.domain.worker import Worker
from queuectl.errors import InvalidInput
from queuectl.interrupt import held

CHANGING = (
    "state",
    "queue",
    "priority",
    "run_at",
    "sort_key",
    "updated_at",
    "attempts",
    "failures",
    "losses",
    "attempt_id",
    "worker",
    "claimed_at",
    "lease_until",
    "slot",
    "pid",
    "lease_started_at",
    "cancel_requested",
    "waiting_for",
    "history",
    "history_dropped",
    "last_error",
    "exit_code",
    "output_tail",
    "started_at",
    "finished_at",
    "cause",
)
"""The columns that `save` may write, in the order of `changing`."""

COLUMNS = ("id", "created_at", "number", "version", *CHANGING, "spec")
"""What `job` takes, in its order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_encode = Encoder().encode


def micros(moment: datetime) -> int:
    """A time as a column keeps it."""
    since = moment - _EPOCH
    return since.days * _DAY + since.seconds * 1_000_000 + since.microseconds


def length(duration: timedelta) -> int:
    """A duration as a store takes it, in whole microseconds."""
    return duration // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    """A time out of a column."""
    return _EPOCH + timedelta(0, 0, micros)


def changing(job: Job) -> tuple[Any, ...]:
    """The values of the columns `CHANGING`."""
    return (
        job.state,
        job.queue,
        job.priority,
        micros(job.run_at),
        job.sort_key,
        micros(job.updated_at),
        job.attempts,
        job.failures,
        job.losses,
        *(_NO_LEASE if job.lease is None else lease(job.lease)),
        None if job.cancel_requested is None else to_json(job.cancel_requested),
        to_json(job.waiting_for) if job.waiting_for else None,
        to_json(job.history) if job.history else None,
        job.history_dropped,
        job.last_error,
        job.exit_code,
        job.output_tail,
        None if job.started_at is None else micros(job.started_at),
        None if job.finished_at is None else micros(job.finished_at),
        job.cause,
    )


def due(job: Job, now: datetime) -> int | None:
    """The flag that decides in which index a job stands: 1 ready, 0 delayed, None neither."""
    if job.state not in WAITING:
        return None
    return 1 if lifecycle.is_due(job, now) else 0


def lease(held: Lease) -> tuple[Any, ...]:
    """The values of the columns from `attempt_id` to `lease_started_at`."""
    return (
        held.attempt_id,
        held.worker,
        micros(held.claimed_at),
        micros(held.until),
        held.slot,
        held.pid,
        None if held.started_at is None else micros(held.started_at),
    )


_NO_LEASE = (None,) * 7


def job(row: Any) -> Job:
    """The job out of a row of `COLUMNS`."""
    (id_, created_at, number, version, state, queue, priority, run_at, sort_key, updated_at, attempts,
     failures, losses, attempt_id, worker, claimed_at, lease_until, slot, pid, lease_started_at,
     cancel_requested, waiting_for, history, history_dropped, last_error, exit_code, output_tail, started_at,
     finished_at, cause, spec) = row  # fmt: skip
    return Job(
        id=id_,
        spec=_spec(spec),
        queue=queue,
        priority=priority,
        state=state,
        run_at=moment(run_at),
        sort_key=sort_key,
        created_at=moment(created_at),
        updated_at=moment(updated_at),
        number=number,
        attempts=attempts,
        failures=failures,
        losses=losses,
        version=version,
        lease=None
        if attempt_id is None
        else Lease(
            attempt_id=attempt_id,
            worker=worker,
            claimed_at=moment(claimed_at),
            until=moment(lease_until),
            slot=slot,
            pid=pid,
            started_at=None if lease_started_at is None else moment(lease_started_at),
        ),
        cancel_requested=None if cancel_requested is None else _cancels().decode(cancel_requested),
        waiting_for=() if waiting_for is None else _names().decode(waiting_for),
        history=() if history is None else _histories().decode(history),
        history_dropped=history_dropped,
        last_error=last_error,
        exit_code=exit_code,
        output_tail=output_tail,
        started_at=None if started_at is None else moment(started_at),
        finished_at=None if finished_at is None else moment(finished_at),
        cause=cause,
    )


UNREADABLE = Spec(argv=("queuectl cannot read what this job is to run",), retry=RetryPolicy(max_retries=0))
"""What stands for a spec that this program does not understand: written by a newer one, or by hand.

There is no such program: so the job ends as dead with a reason, and can be listed, cancelled and deleted until then. A
job that made its reader raise would take along each worker that claims it, one after the other.
"""


def _spec(text: str) -> Spec:
    try:
        return _specs().decode(text)
    except (DecodeError, RecursionError):
        return UNREADABLE


def to_json(value: Any) -> str:
    """A part of a job, a worker or a shared value as text."""
    return _encode(value).decode()


def worker(text: str) -> Worker:
    """The worker out of its text."""
    return _workers().decode(text)


def value(text: str) -> dict[str, Any]:
    """The value of a shared entry out of its text."""
    return _values().decode(text)


def place(job: Job, sort: Sort) -> tuple[int, ...]:
    """Where a job stands in an order: numbers that rise from first to last, and are no two jobs' alike."""
    if sort == "created":
        return (-job.number,)
    if sort == "updated":
        return (-micros(job.updated_at), -job.number)
    return (job.sort_key, job.number)


def cursor(job: Job, sort: Sort) -> str:
    """What `Page.after` has to be for the page that follows this job."""
    return ":".join(str(number) for number in place(job, sort))


def position(cursor: str, sort: Sort) -> tuple[int, ...]:
    """The place that a cursor names."""
    try:
        numbers = tuple(int(part) for part in cursor.split(":"))
    except ValueError:
        numbers = ()
    if len(numbers) != (1 if sort == "created" else 2) or any(abs(number) >= 2**63 for number in numbers):
        raise InvalidInput(f"{cursor!r} is no place in a list sorted by {sort}", "begin at the first page")
    return numbers


@cache
def _specs() -> Decoder[Spec]:
    with held():
        return Decoder(Spec)


@cache
def _cancels() -> Decoder[CancelRequest]:
    with held():
        return Decoder(CancelRequest)


@cache
def _names() -> Decoder[tuple[str, ...]]:
    with held():
        return Decoder(tuple[str, ...])


@cache
def _histories() -> Decoder[tuple[Attempt, ...]]:
    with held():
        return Decoder(tuple[Attempt, ...])


@cache
def _workers() -> Decoder[Worker]:
    with held():
        return Decoder(Worker)


@cache
def _values() -> Decoder[dict[str, Any]]:
    with held():
        return Decoder(dict[str, Any])
