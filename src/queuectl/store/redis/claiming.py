"""Claim, renew and find lapsed leases: a script each."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from queuectl.domain.job import Job
from queuectl.store import codec
from queuectl.store.protocol import DUE_LOOKED_AT, Held
from queuectl.store.redis import rows
from queuectl.store.redis.connections import Line
from queuectl.store.tokens import Tokens


def claim(
    line: Line,
    worker: str,
    queues: Sequence[str],
    limit: int,
    lease: timedelta,
    now: str,
    tokens: Tokens,
) -> list[Job]:
    """Take the first due jobs, in order."""
    ids = tokens.take(limit)
    taken = line.run("claim", now, worker, codec.length(lease), msgspec.msgpack.encode(list(queues)), *ids)
    tokens.give_back(ids[len(taken) :])
    return [rows.job(row) for row in taken]


def renew(line: Line, worker: str, held: Sequence[Held], lease: timedelta, now: str) -> list[Job]:
    """Begin the leases of these attempts again, where they are still held."""
    pairs = [word for each in held for word in (each.job_id, each.attempt_id)]
    return [rows.job(row) for row in line.run("renew", now, worker, codec.length(lease), *pairs)]


def lapsed(line: Line, limit: int, now: str) -> list[Job]:
    """Claims whose lease has ended, longest ago first."""
    return [rows.job(row) for row in line.run("lapsed", now, limit)]


def due_since(line: Line, now: str) -> dict[str, datetime]:
    """For each queue, since when the job that waits longest has been due."""
    rows = line.run("due", now, DUE_LOOKED_AT)
    return {queue.decode(): codec.moment(int(since)) for queue, since in rows}
