"""Converts a job to the form that scripts accept and return.

The values that scripts read are fields of a hash, as decimal text. The scripts do not read the other values that
change: those are one JSON text (`rest`). The spec is a field that is written once.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import replace

from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.errors import UnreadableJob
from queuectl.store.driver import codec
from queuectl.store.driver.numbering import brought

_HASH = (
    "state",
    "queue",
    "run_at",
    "sort_key",
    "updated_at",
    "attempts",
    "attempt_id",
    "worker",
    "claimed_at",
    "lease_until",
)
FIELDS = ("id", "created_at", "version", *_HASH, "rest", "spec", "cause", "progress", "number")
"""The parts of a row, as `scripts/lib/job.lua` puts them together."""

_NUMBERS = frozenset(
    (
        "created_at",
        "version",
        "run_at",
        "sort_key",
        "updated_at",
        "attempts",
        "claimed_at",
        "lease_until",
        "number",
    )
)
# An older program refuses a `rest` of another length, so each later column is a field of its own.
_LATER = ("cause", "progress")
_REST = tuple(column for column in codec.CHANGING if column not in (*_HASH, *_LATER))
_pack = msgspec.msgpack.Encoder().encode
_rests = msgspec.json.Decoder(list[Any])


def new(job: Job, event: Event | None = None) -> bytes:
    """Pack a job for the script `add`, with its event."""
    return _packed({**_changing(job), **_once(job), "event": _event(event)})


def batches(packed: Sequence[bytes], count: int, size: int) -> Iterator[Sequence[bytes]]:
    """Split packed jobs into batches of at most `count` jobs and about `size` bytes: a script blocks other clients."""
    start = weight = 0
    for place, job in enumerate(packed):
        weight += len(job)
        if place + 1 - start == count or weight >= size:
            yield packed[start : place + 1]
            start, weight = place + 1, 0
    if start < len(packed):
        yield packed[start:]


def _once(job: Job) -> dict[str, Any]:
    spec = job.spec
    marks = [f"tag:{tag}" for tag in spec.tags]
    marks += [f"batch:{spec.batch}"] if spec.batch is not None else []
    marks += [f"key:{spec.unique_key}"] if spec.unique_key is not None else []
    return {
        "id": job.id,
        "created_at": str(codec.micros(job.created_at)),
        "spec": codec.to_json(spec),
        "key": spec.unique_key,
        "marks": marks or None,
        "number": str(brought(job)) if brought(job) else None,
    }


def changed(job: Job, event: Event | None = None) -> bytes:
    """Pack a job for the script `save`, with its event."""
    asked = True if job.lease and job.cancel_requested else None
    return _packed({**_changing(job), "id": job.id, "asked": asked, "event": _event(event)})


def with_events(jobs: Sequence[Job], events: Sequence[Event | None]) -> Iterable[tuple[Job, Event | None]]:
    """Each job with its event. `events` is empty if there are none."""
    return zip(jobs, events, strict=True) if events else zip(jobs, repeat(None))


def line(event: Event) -> str:
    """An event as a script gets it. The script writes the number beside the line, where it takes less memory."""
    return codec.event_line(replace(event, number=0) if event.number else event)


def _event(event: Event | None) -> str | None:
    return None if event is None else line(event)


def job(row: Sequence[Any]) -> Job:
    """Decode a row into a job. Raises UnreadableJob."""
    known = list(map(_value, _IS_NUMBER, row))
    try:
        known += _rest(known[_PLACE_OF_REST])
    except codec.DAMAGE as error:
        raise UnreadableJob(known[0] or "", known[-1], f"rest: {error}") from error
    return codec.job(_in_order_of_columns(known))


_IS_NUMBER = [name in _NUMBERS for name in FIELDS]
_PLACE_OF_REST = FIELDS.index("rest")
_in_order_of_columns = itemgetter(*map((*FIELDS, *_REST).index, codec.COLUMNS))


def _rest(text: str | None) -> list[Any]:
    if text is None:
        raise ValueError("it is absent")
    values = _rests.decode(text)
    if len(values) != len(_REST):
        raise ValueError(f"it has {len(values)} values")
    return values


def standing(row: Sequence[Any]) -> tuple[str, str]:
    """The state and the queue in a row. Each is empty if the row has none."""
    return tuple((row[FIELDS.index(name)] or b"").decode(errors="replace") for name in ("state", "queue"))  # type: ignore[return-value]


def _value(is_number: bool, part: bytes | None) -> Any:
    """Convert a text to a number if it is one."""
    if part is None:
        return None
    return int(part) if is_number and _WHOLE.fullmatch(part) else part.decode(errors="backslashreplace")


_WHOLE = re.compile(rb"-?[0-9]{1,19}")


def _changing(job: Job) -> dict[str, Any]:
    values = dict(zip(codec.CHANGING, codec.changing(job), strict=True))
    known: dict[str, Any] = {name: _text(values[name]) for name in _HASH}
    known["version"] = str(job.version)
    known["finished_at"] = _text(values["finished_at"])
    known.update((name, values[name]) for name in _LATER)
    known["rest"] = codec.to_json([values[name] for name in _REST])
    known["waits"] = list(job.waiting_for) or None
    return known


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _packed(values: dict[str, Any]) -> bytes:
    return _pack({name: value for name, value in values.items() if value is not None})
