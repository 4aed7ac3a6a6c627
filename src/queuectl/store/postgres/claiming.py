"""Claim, renew and find lapsed leases. The claim itself is a function of the schema; see `migrations/0003.sql`."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from queuectl.domain.job import Job
from queuectl.store import codec
from queuectl.store.postgres.connections import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import DUE_LOOKED_AT, Held
from queuectl.store.tokens import Tokens

SQL = statements("jobs")


def claim(
    line: Line, worker: str, queues: Sequence[str], limit: int, lease: timedelta, tokens: Tokens
) -> list[Job]:
    """Take the first due jobs, in order."""
    ids = tokens.take(limit)
    rows = line.rows(SQL["claim"], (worker, list(queues), limit, codec.length(lease), ids))
    tokens.give_back(ids[len(rows) :])
    return [codec.job(row) for row in rows]


def renew(line: Line, worker: str, held: Sequence[Held], lease: timedelta) -> list[Job]:
    """Extend what is still held under the same attempt id; answer it fresh, in the order of the asking."""
    ids, attempts = [h.job_id for h in held], [h.attempt_id for h in held]
    fresh = {
        row[0]: codec.job(row)
        for row in line.rows(SQL["renew"], (worker, ids, attempts, codec.length(lease)))
    }
    return [fresh[id] for id in dict.fromkeys(ids) if id in fresh]


def lapsed(line: Line, limit: int) -> list[Job]:
    """Claims whose lease has ended."""
    return [codec.job(row) for row in line.rows(SQL["lapsed"], (limit,))]


def due_since(line: Line) -> dict[str, datetime]:
    """For each queue, since when the job that waits longest has been due."""
    rows = line.rows(SQL["due_since"], (DUE_LOOKED_AT,))
    return {queue: codec.moment(since) for queue, since in rows}
