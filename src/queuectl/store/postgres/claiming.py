"""Claim, renew and find lapsed leases. The claim itself is a function of the schema; see `migrations/0001.sql`."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from queuectl.domain.job import Job
from queuectl.store import codec
from queuectl.store.postgres.connections import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Held

SQL = statements("jobs")


class Tokens:
    """Attempt ids, made before anybody knows how many jobs there are to claim. What was not used serves next time."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make, self._lock, self._spare = make, threading.Lock(), deque[str]()

    def take(self, count: int) -> list[str]:
        """As many as that, none of them ever given to anybody else."""
        with self._lock:
            return [self._spare.popleft() if self._spare else self._make() for _ in range(count)]

    def give_back(self, unused: list[str]) -> None:
        """Only what is known not to have been used: never after a lost reply."""
        with self._lock:
            self._spare.extendleft(reversed(unused))


def claim(
    line: Line, worker: str, queues: Sequence[str], limit: int, lease: timedelta, tokens: Tokens
) -> list[Job]:
    """Take the first due jobs, in order."""
    ids = tokens.take(limit)
    rows = line.rows(SQL["claim"], (worker, list(queues), limit, _micros(lease), ids))
    tokens.give_back(ids[len(rows) :])
    return [codec.job(row) for row in rows]


def renew(line: Line, worker: str, held: Sequence[Held], lease: timedelta) -> list[Job]:
    """Extend what is still held under the same attempt id; answer it fresh, in the order of the asking."""
    ids, attempts = [h.job_id for h in held], [h.attempt_id for h in held]
    fresh = {
        row[0]: codec.job(row) for row in line.rows(SQL["renew"], (worker, ids, attempts, _micros(lease)))
    }
    return [fresh[id] for id in dict.fromkeys(ids) if id in fresh]


def lapsed(line: Line, limit: int) -> list[Job]:
    """Claims whose lease has ended."""
    return [codec.job(row) for row in line.rows(SQL["lapsed"], (limit,))]


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
