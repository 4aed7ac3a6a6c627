"""Deleting jobs that have ended, a bounded number at a time."""

import apsw

from queuectl.domain.query import Filter
from queuectl.store import codec
from queuectl.store.sqlite.finding import ENDED, conditions
from queuectl.store.sqlite.sql import statements

SQL = statements("jobs")
_FIRST = "SELECT job.number, id FROM job WHERE "
_ENDED = f" AND {ENDED} ORDER BY finished_at, job.number LIMIT ?"


def purge(connection: apsw.Connection, wanted: Filter, limit: int) -> list[str]:
    """Longest ended first; whatever the filter says, only what has ended."""
    where, values = conditions(wanted)
    gone = connection.execute(f"{_FIRST}{where}{_ENDED}", (*values, limit)).fetchall()
    connection.execute(SQL["delete_jobs"], (codec.to_json([number for number, _ in gone]),))
    return [str(id_) for _, id_ in gone]
