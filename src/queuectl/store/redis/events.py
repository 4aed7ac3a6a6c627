"""Reads and deletes events. They are entries of a stream, which the scripts write in the step of the change.

A cursor is the id of an entry. The server assigns rising ids, also after it has lost writes (`scripts/lib/events.lua`).
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from queuectl.store.driver import codec, paging
from queuectl.store.protocol import EventPage
from queuectl.store.redis.connect import Line

AT_ONCE = 1000
"""Maximum number of events in one reply. A running script blocks all other clients."""


def read(line: Line, after: str | None, limit: int) -> EventPage:
    """The first events behind a cursor."""
    place = "" if after is None else "{}-{}".format(*paging.parse_event_cursor(after, 2))
    gap, start, entries = line.run("read_events", place, min(limit, AT_ONCE))
    end = entries[-1][0] if entries else start
    return EventPage(codec.events(_rows(entries)), end.decode(), bool(gap))


def _rows(entries: Iterable[tuple[bytes, list[bytes]]]) -> Iterator[tuple[str, int, int, bytes]]:
    """Cursor, time, number and line of each entry. An entry that was added by hand is omitted."""
    for id, flat in entries:
        with suppress(ValueError):
            _, at, _, number, _, line = flat
            yield id.decode(), int(at), int(number), line


def cursor(line: Line, at: datetime | None) -> str:
    """The cursor behind the events that were written before this time."""
    found: bytes = line.run("event_cursor", "" if at is None else codec.micros(at))
    return found.decode()


def trim(line: Line, before: datetime, keep: int, limit: int) -> int:
    """Delete some of the oldest events."""
    return int(line.run("trim_events", codec.micros(before), keep, min(limit, AT_ONCE)))
