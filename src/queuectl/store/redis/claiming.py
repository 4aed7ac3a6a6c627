"""Claim, renew and find lapsed leases: a script each."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec

from queuectl.domain.job import Job
from queuectl.store.protocol import Held
from queuectl.store.redis import rows
from queuectl.store.redis.connections import Line


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
    taken = line.run("claim", now, worker, _micros(lease), msgspec.msgpack.encode(list(queues)), *ids)
    tokens.give_back(ids[len(taken) :])
    return [rows.job(row) for row in taken]


def renew(line: Line, worker: str, held: Sequence[Held], lease: timedelta, now: str) -> list[Job]:
    """Begin the leases of these attempts again, where they are still held."""
    pairs = [word for each in held for word in (each.job_id, each.attempt_id)]
    return [rows.job(row) for row in line.run("renew", now, worker, _micros(lease), *pairs)]


def lapsed(line: Line, limit: int, now: str) -> list[Job]:
    """Claims whose lease has ended, longest ago first."""
    return [rows.job(row) for row in line.run("lapsed", now, limit)]


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
