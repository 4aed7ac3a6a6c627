"""Writes, reads and deletes events. A cursor is the number of an event.

Only one connection writes at a time, so an event that is committed later has a higher number.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw

from queuectl.domain.event import Event
from queuectl.store.driver import codec, paging
from queuectl.store.protocol import EventPage
from queuectl.store.sqlite.sql import statements

SQL = statements("events")


def write(connection: apsw.Connection, events: Sequence[Event], now: datetime) -> None:
    """Write these events, inside the transaction of the change."""
    if events:
        at = codec.micros(now)
        connection.executemany(SQL["write"], [(at, codec.event_line(event)) for event in events])


def read(connection: apsw.Connection, after: str | None, limit: int) -> EventPage:
    """The first events behind a cursor."""
    with connection:  # one transaction, because the page and the bounds have to fit together
        first, last = connection.execute(SQL["first"]).get, _last(connection)
        oldest = first or last + 1
        start = oldest - 1 if after is None else paging.parse_event_cursor(after)[0]
        gap = start < oldest - 1 or start > last
        start = oldest - 1 if gap else start
        rows: list[Any] = connection.execute(SQL["page"], (start, limit)).fetchall()
    end = rows[-1][0] if rows else start
    told = codec.events([(str(seq), at, None, line) for seq, at, line in rows])
    return EventPage(told, str(end), gap)


def cursor(connection: apsw.Connection, at: datetime | None) -> str:
    """The cursor behind the events that were written before this time. Found by bisection: the times rise."""
    with connection:
        last = _last(connection)
        low, high = (connection.execute(SQL["first"]).get or last + 1) - 1, last
        while at is not None and low < high:
            middle = (low + high) // 2 + 1
            written: int | None = connection.execute(SQL["written_at"], (middle,)).get
            if written is not None and written < codec.micros(at):
                low = middle
            else:
                high = middle - 1
    return str(high)


def trim(connection: apsw.Connection, before: datetime, keep: int, limit: int) -> int:
    """Delete some of the oldest events. Runs inside a transaction of the writer."""
    moment, bound, count = codec.micros(before), _last(connection) - keep, 0
    last = None
    for seq, at in connection.execute(SQL["oldest"], (limit,)):
        if at >= moment and seq > bound:
            break
        last, count = seq, count + 1
    if last is not None:
        connection.execute(SQL["trim"], (last,))
    return count


def _last(connection: apsw.Connection) -> int:
    return connection.execute(SQL["last"]).get or 0
