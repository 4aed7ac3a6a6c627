"""Deleting jobs that have ended, a bounded number at a time."""

from queuectl.domain.query import Filter
from queuectl.store import statements as files
from queuectl.store.postgres.connections import Line
from queuectl.store.postgres.finding import conditions

_PURGE = """
WITH first AS MATERIALIZED (
    SELECT number, finished_at FROM {schema}.ended AS r WHERE {where}
    ORDER BY finished_at, number LIMIT %s FOR UPDATE SKIP LOCKED
), rows AS (DELETE FROM {schema}.ended USING first WHERE ended.number = first.number
), prints AS (DELETE FROM {schema}.output USING first WHERE output.job = first.number
), bodies AS (DELETE FROM {schema}.body USING first WHERE body.number = first.number RETURNING body.number, id)
SELECT id FROM bodies JOIN first USING (number) ORDER BY finished_at, number"""


def purge(line: Line, wanted: Filter, limit: int) -> list[str]:
    """Longest ended first; whatever the filter says, only what has ended."""
    where, values = conditions(wanted)
    return [id for (id,) in line.rows(files.fill(_PURGE, {"where": where}), [*values, limit])]
