"""Deletes ended jobs, a bounded number at a time, and jobs that cannot be decoded."""

from collections.abc import Sequence

import apsw

from queuectl.domain.event import Actor, deleted
from queuectl.domain.query import Filter
from queuectl.store.driver import codec, paging
from queuectl.store.sqlite import events, rows
from queuectl.store.sqlite.claim import Now
from queuectl.store.sqlite.find import ENDED, conditions
from queuectl.store.sqlite.sql import fill, statements

SQL = statements("jobs")
_FIRST = fill("SELECT {columns} FROM job LEFT JOIN spec USING (number) WHERE ")
_ENDED = f" AND {ENDED} ORDER BY finished_at, job.number LIMIT ?"


def purge(connection: apsw.Connection, wanted: Filter, limit: int, now: Now, tell: Actor | None) -> list[str]:
    """Delete ended jobs that match, longest ended first. Jobs that have not ended are never deleted."""
    where, values = conditions(wanted)
    sql = f"{_FIRST}{where}{_ENDED}"
    gone, _ = paging.first(lambda count: rows.sift(connection, sql, [(*values, count)]), limit)
    _delete(connection, [job.number for job in gone])
    if tell is not None:
        events.write(connection, [deleted(job, tell) for job in gone], now())
    return [job.id for job in gone]


def discard(connection: apsw.Connection, numbers: Sequence[int], _now: object) -> list[int]:
    """Delete the jobs with these numbers that cannot be decoded, in any state."""
    _, damaged = rows.sift(connection, SQL["by_number"], [(number,) for number in numbers])
    gone = [each.number for each in damaged]
    _delete(connection, gone)
    return gone


def _delete(connection: apsw.Connection, numbers: Sequence[int]) -> None:
    connection.execute(SQL["delete_jobs"], (codec.to_json(numbers),))
