"""Reads and deletes events. The functions of the schema write them (`migrations/0007.sql`).

A cursor is `xid-seq`. Several transactions write at a time, and the one that began first may commit last. So a reader
gets an event only when every transaction with a lower number has ended, and the events are in the order of the numbers.
"""

from datetime import datetime

from queuectl.store.driver import codec, paging
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import EventPage

SQL = statements("events")


def read(line: Line, after: str | None, limit: int) -> EventPage:
    """The first events behind a cursor."""
    xid, seq = (None, None) if after is None else paging.parse_event_cursor(after, 2)
    wanted = {"xid": None if xid is None else str(xid), "seq": seq, "limit": limit}
    rows = line.rows(SQL["page"], wanted)
    start, gap = rows[0][:2]
    found = [row[2:] for row in rows if row[2] is not None]
    return EventPage(codec.events(found), found[-1][0] if found else start, gap)


def cursor(line: Line, at: datetime | None) -> str:
    """The cursor behind the last event before the first one that was written at this time or later.

    Concurrent transactions may write their times in another order than that of the events, so all events are read.
    """
    found: str = line.value(SQL["cursor"], {"at": None if at is None else codec.micros(at)})
    return found


def trim(line: Line, before: datetime, keep: int, limit: int) -> int:
    """Delete some of the oldest events. The number of an event that was rolled back counts as kept."""
    with line.transaction():
        line.run(SQL["lock"])
        line.run(SQL["move_back"])
        bound = int(line.value(SQL["last_seq"])) - keep
        return line.run(SQL["trim"], {"before": codec.micros(before), "keep": bound, "limit": limit})
