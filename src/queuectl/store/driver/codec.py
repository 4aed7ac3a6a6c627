"""One encoding for all drivers: a job as a row of plain values, its nested parts as JSON, times as integers.

A time in a column is a whole number of microseconds since 1970, so that every store orders and compares it alike and
nothing is rounded. `spec` is a separate text because it is written once; `changing(job)` has the columns that change.
Decoders are built at their first use, so that a short command builds only the decoders that it needs.

A row that cannot be decoded raises `UnreadableJob` for any fault in it; `sift` separates such rows from jobs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from msgspec import MsgspecError
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.event import Event
from queuectl.domain.job import STATES, TERMINAL, WAITING, Attempt, CancelRequest, Job, Lease, Progress, Spec
from queuectl.domain.output import Chunk, known_stream
from queuectl.domain.query import Unreadable
from queuectl.domain.worker import Worker
from queuectl.errors import UnreadableJob
from queuectl.interrupt import held
from queuectl.store.protocol import Entry, Swap, Table, Upcoming

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
    "progress",
)
"""The columns that `save` may write, in the order of `changing`."""

COLUMNS = ("id", "created_at", "number", "version", *CHANGING, "spec")
"""The columns that `job` decodes, in order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_END = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH).days * _DAY
_encode = Encoder().encode
Kind = TypeVar("Kind")


def micros(moment: datetime) -> int:
    """A time as stored in a column: whole microseconds since 1970."""
    since = moment - _EPOCH
    return since.days * _DAY + since.seconds * 1_000_000 + since.microseconds


def length(duration: timedelta) -> int:
    """A duration in whole microseconds, as stores expect it."""
    return duration // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    """The time in a column. Raises ValueError for a year that not every time zone can show."""
    if not 0 <= micros < _END:
        raise ValueError(f"{micros} is beyond the calendar")
    return _EPOCH + timedelta(0, 0, micros)


def nearest(micros: Any) -> datetime:
    """The time in a column that may have been edited by hand. An invalid value becomes the first or last valid time."""
    return moment(min(max(micros, 0), _END - 1) if isinstance(micros, int) else 0)


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
        None if job.progress is None else to_json(job.progress),
    )


def due(job: Job, now: datetime) -> int | None:
    """The flag that decides which index contains the job: 1 ready, 0 delayed, None no index."""
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
    """Decode a row of `COLUMNS` into a job. Raises UnreadableJob."""
    try:
        return _job(row)
    except DAMAGE as error:
        raise unreadable(dict(zip(COLUMNS, row, strict=True)), error) from error


Row = Any
DAMAGE = (MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
"""The errors of decoding a stored job that was edited by hand or damaged by a disk."""


def sift(rows: Iterable[Row], decode: Callable[[Row], Job] = job) -> tuple[list[Job], list[Unreadable]]:
    """Decode rows into jobs; the second list has the rows that cannot be decoded."""
    jobs, damaged = list[Job](), list[Unreadable]()
    for row in rows:
        try:
            jobs.append(decode(row))
        except UnreadableJob as error:
            damaged.append(Unreadable(error.id, error.number, error.reason))
    return jobs, damaged


def chunk(row: Row) -> Chunk:
    """Decode a row of a table of chunks."""
    job_id, attempt_id, n, stream, at, offset, data = row
    return Chunk(job_id, attempt_id, n, known_stream(stream), moment(at), offset, data)


def chunks(rows: Iterable[Row], decode: Callable[[Row], Chunk] = chunk) -> list[Chunk]:
    """Decode rows into chunks. A chunk that cannot be decoded is omitted, like a chunk that was not kept."""
    found = list[Chunk]()
    for row in rows:
        with suppress(KeyError, *DAMAGE):
            found.append(decode(row))
    return found


def unreadable(values: Mapping[str, Any], error: Exception) -> UnreadableJob:
    """The error for these values. It names the column if a single column is wrong."""
    reason = next(_faults(values), None) or f"{type(error).__name__}: {error}"
    number = values["number"] if isinstance(values.get("number"), int) else 0
    id = values.get("id") if isinstance(values.get("id"), str) else None
    return UnreadableJob(id or str(number), number, " ".join(reason.split()))


def _job(row: Any) -> Job:
    _check_kinds(row)
    (id_, created_at, number, version, state, queue, priority, run_at, sort_key, updated_at, attempts,
     failures, losses, attempt_id, worker, claimed_at, lease_until, slot, pid, lease_started_at,
     cancel_requested, waiting_for, history, history_dropped, last_error, exit_code, output_tail, started_at,
     finished_at, cause, progress, spec) = row  # fmt: skip
    if (state == "processing") > (attempt_id is not None) or (state in TERMINAL) > (finished_at is not None):
        raise ValueError("the state and the times do not fit together")
    within = 0 <= version < _GREATEST and 0 <= attempts < _GREATEST and 0 <= failures < _GREATEST
    if not (within and 0 <= losses < _GREATEST and 0 <= history_dropped < _GREATEST) or state not in STATES:
        raise ValueError("out of range")
    found = Job(
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
        else _lease(attempt_id, worker, claimed_at, lease_until, slot, pid, lease_started_at),
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
    return found if progress is None else _with_progress(found, _progresses().decode(progress))


def _with_progress(job: Job, progress: Progress) -> Job:
    """The job with its stored progress. A claim does not delete the progress of an earlier attempt, so that it costs
    nothing: that progress is ignored here.
    """
    return replace(job, progress=progress) if progress.attempt_id == job.last_attempt_id else job


def _lease(
    attempt_id: str, worker: str, claimed_at: int, until: int, slot: int, pid: int, started_at: int | None
) -> Lease:
    return Lease(
        attempt_id=attempt_id,
        worker=worker,
        claimed_at=moment(claimed_at),
        until=moment(until),
        slot=slot,
        pid=pid,
        started_at=None if started_at is None else moment(started_at),
    )


_GREATEST = 2**62
"""Counts must be below this number, so that every store can still increment them."""
_TEXT, _NUMBER = frozenset((str,)), frozenset((int,))
_KINDS = {
    **dict.fromkeys(COLUMNS, _NUMBER),
    **dict.fromkeys(("id", "state", "queue", "output_tail", "spec"), _TEXT),
    **dict.fromkeys(
        (
            "attempt_id",
            "worker",
            "cancel_requested",
            "waiting_for",
            "history",
            "last_error",
            "cause",
            "progress",
        ),
        _TEXT | {type(None)},
    ),
    **dict.fromkeys(
        (
            "claimed_at",
            "lease_until",
            "slot",
            "pid",
            "lease_started_at",
            "exit_code",
            "started_at",
            "finished_at",
        ),
        _NUMBER | {type(None)},
    ),
}
_known_kinds = set[tuple[type, ...]]()
"""The combinations of value types that were already checked and are valid."""


def _check_kinds(row: Row) -> None:
    kinds = tuple(map(type, row))
    if kinds not in _known_kinds:
        if any(kind not in _KINDS[column] for column, kind in zip(COLUMNS, kinds, strict=True)):
            raise TypeError("a value is of another kind")
        _known_kinds.add(kinds)


def _faults(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each column that is wrong by itself."""
    for column in COLUMNS:
        value = values.get(column)
        if type(value) not in _KINDS[column]:
            found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
            yield f"{column} is {found}"
        elif value is not None and column in _checks():
            try:
                _checks()[column](value)
            except DAMAGE as error:
                yield f"{column}: {error}"
    if values.get("state") not in STATES:
        yield f"state {str(values.get('state'))[:40]!r} is none"


@cache
def _checks() -> dict[str, Callable[[Any], object]]:
    times = (
        "created_at",
        "run_at",
        "updated_at",
        "claimed_at",
        "lease_until",
        "lease_started_at",
        "started_at",
    )
    return {
        **dict.fromkeys((*times, "finished_at"), moment),
        **dict.fromkeys(("version", "attempts", "failures", "losses", "history_dropped"), _count),
        "cancel_requested": _cancels().decode,
        "waiting_for": _names().decode,
        "history": _histories().decode,
        "progress": _progresses().decode,
        "spec": _spec,
    }


def _count(number: int) -> None:
    if not 0 <= number < _GREATEST:
        raise ValueError(f"{number} is out of range")


def _spec(text: str) -> Spec:
    spec = _specs().decode(text)
    if spec.command is None and spec.argv is None:
        raise ValueError("there is no command")
    return spec


def to_json(value: Any) -> str:
    """Encode a worker, a value of a shared table, or a part of a job as JSON."""
    return _encode(value).decode()


def worker(id: str, text: Any) -> Worker:
    """Decode a worker. One that cannot be decoded has no heartbeat, so it counts as lost until its next heartbeat."""
    try:
        return _workers().decode(text)
    except DAMAGE as error:
        note = f"its entry in the registry cannot be read: {error}"
        return Worker(
            id=id, name=id, host="", boot_id="", holder_pid=0, agent_pid=0, version="", count=0,
            started_at=_EPOCH, note=note,
        )  # fmt: skip


def entry(text: Any, version: Any) -> Entry:
    """Decode an entry of a shared table. See `Entry` for an entry that cannot be decoded."""
    known = version if type(version) is int else 0
    try:
        return Entry(_values().decode(text), known)
    except DAMAGE as error:
        return Entry({"paused": True}, known, f"{error}")


def upcoming(table: Table, key: str, text: Any, version: Any, due: Any) -> Upcoming:
    """Decode an entry that needs work."""
    return Upcoming(table, key, entry(text, version), nearest(due))


def swap(swap: Swap) -> dict[str, Any]:
    """The values of a changed entry, as statements expect them. A removed entry has neither a value nor a time."""
    return {
        "table": swap.table,
        "key": swap.key,
        "value": None if swap.value is None else to_json(swap.value),
        "version": swap.version,
        "due": None if swap.due is None else micros(swap.due),
    }


def event_line(event: Event) -> str:
    """An event as JSON, without its time. The number is left out if it is 0, because the store has to assign it."""
    return _encode(event).decode()


def event(at: int, number: int | None, line: Any) -> Event:
    """Decode a line that was written at this time. `number`: of a job whose line has none."""
    found = _events().decode(line)
    return replace(found, at=nearest(at), number=number or found.number)


def events(rows: Iterable[tuple[str, int, int | None, Any]]) -> list[tuple[str, Event]]:
    """Decode rows of cursor, time, number and line. An event that cannot be decoded is omitted: a newer program may
    have written it.
    """
    found = list[tuple[str, Event]]()
    for cursor, at, number, line in rows:
        with suppress(*DAMAGE):
            found.append((cursor, event(at, number, line)))
    return found


def value(text: str) -> dict[str, Any]:
    """Decode a small JSON object."""
    return _values().decode(text)


def _decoder(kind: type[Kind]) -> Callable[[], Decoder[Kind]]:
    """A function that builds the decoder of a type at its first call."""

    @cache
    def decoder() -> Decoder[Kind]:
        with held():
            return Decoder(kind)

    return decoder


_specs, _cancels, _workers = _decoder(Spec), _decoder(CancelRequest), _decoder(Worker)
_events, _progresses = _decoder(Event), _decoder(Progress)
_names, _histories = _decoder(tuple[str, ...]), _decoder(tuple[Attempt, ...])
_values = _decoder(dict[str, Any])
