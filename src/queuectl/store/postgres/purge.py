"""Deletes ended jobs, a bounded number at a time, and jobs that cannot be decoded."""

from collections.abc import Sequence

from queuectl.domain.event import Actor, deleted
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.store.driver import codec, paging
from queuectl.store.driver import sql as files
from queuectl.store.postgres import events
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.find import conditions
from queuectl.store.postgres.sql import fill, statements

SQL = statements("jobs")
_OLDEST = fill("""
WITH first AS MATERIALIZED (
    SELECT * FROM {schema}.ended AS r WHERE {where} ORDER BY finished_at, number LIMIT %s FOR UPDATE SKIP LOCKED
)
SELECT {columns} FROM first LEFT JOIN {schema}.body USING (number) ORDER BY finished_at, number""")


def purge(line: Line, wanted: Filter, limit: int, _now: object, tell: Actor | None = None) -> list[str]:
    """Delete ended jobs that match, longest ended first. Jobs that have not ended are never deleted."""
    where, values = conditions(wanted)
    oldest = files.fill(_OLDEST, {"where": where})
    with line.transaction():
        gone, _ = paging.first(lambda count: codec.sift(line.rows(oldest, [*values, count])), limit)
        _delete(line, [job.number for job in gone])
        if tell is not None:
            _tell(line, gone, tell)
    return [job.id for job in gone]


def _tell(line: Line, jobs: Sequence[Job], actor: Actor) -> None:
    told = codec.to_json([deleted(job, actor) for job in jobs])
    line.run(events.SQL["tell"], ([job.number for job in jobs], told))


def discard(line: Line, numbers: Sequence[int], _now: object) -> list[int]:
    """Delete the jobs with these numbers that cannot be decoded, in any state."""
    with line.transaction():
        _, damaged = codec.sift(line.rows(SQL["by_numbers"], {"numbers": list(numbers)}))
        gone = [each.number for each in damaged]
        _delete(line, gone)
    return gone


def _delete(line: Line, numbers: Sequence[int]) -> None:
    line.run(SQL["delete"], {"numbers": list(numbers)})
