"""A lock per limited queue: one claim at a time counts the running jobs of the queue and takes more.

The invariant: no more jobs of a queue run than its limit allows. Two claims that count at the same time would both
take a job for the same free slot. MongoDB has no transactions on a standalone server, and a lock must not outlive a
process that dies, so a lock is a time of the server's clock, stored as `turn` beside the queue's settings: the
process that sets it has the lock until then.

A holder that is suspended may wake up after its lock has expired, when another process has counted already. Two rules
keep the invariant then:

- Taking jobs is conditional on the server's clock being before the end of the lock (`not_after`): a late request
  changes nothing.
- A request that passed the condition in time may still be executing when the lock ends; its client gives up after
  `GUARD_INTERVAL`. So the next lock begins no sooner than `GUARD_INTERVAL` after the end of the last one.

Shown by `TestQueueLock` in tests/contract/test_mongo_claiming.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymongo
from msgspec import Struct
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import PyMongoError

from queuectl.domain.queue import QueueSettings
from queuectl.store.driver import codec
from queuectl.store.mongo import ready_index
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.documents import Document

TTL = 2_000_000
"""Microseconds until a lock expires. A claim needs a few thousand of them."""
GUARD_INTERVAL = 2_000_000
"""Microseconds for which a request that began before the end of its lock may still execute."""
RELEASE_TIMEOUT = 0.5
"""Time limit in seconds for releasing a lock. A lock that is not released expires."""


class QueueLock(Struct, frozen=True):
    """The right to take jobs from one queue until a time of the server's clock, and the queue's settings."""

    until: int
    settings: QueueSettings


@contextmanager
def acquired(base: Base, queues: Sequence[str], now: Any) -> Iterator[Mapping[str, QueueLock]]:
    """Lock each of these queues that no other claim has locked; release the locks at the end of the block."""
    asked = {queue: _acquire(base, queue, now) for queue in queues}
    locks = {queue: lock for queue, lock in asked.items() if lock is not None}
    try:
        yield locks
    finally:
        _release(base, locks)


def capacities(base: Base, locks: Mapping[str, QueueLock]) -> dict[str, int | None]:
    """The number of jobs that may be taken from each locked queue; None is any number. The lock prevents a change."""
    running = ready_index.count_processing(base, list(locks))
    return {queue: ready_index.capacity(lock.settings, running[queue]) for queue, lock in locks.items()}


@contextmanager
def not_after(until: int, now: Any) -> Iterator[Document]:
    """The condition that the server's clock is before `until`. Requests in the block end after the guard interval."""
    with pymongo.timeout(GUARD_INTERVAL / 1_000_000):
        yield {"$expr": {"$lt": [now, until]}}


def _acquire(base: Base, queue: str, now: Any) -> QueueLock | None:
    free = {"$lt": [{"$add": [{"$cond": [{"$isNumber": "$turn"}, "$turn", 0]}, GUARD_INTERVAL]}, now]}
    entry = for_changing_one(base["shared"]).find_one_and_update(
        {"_id": f"queues/{queue}", "$expr": free},
        [{"$set": {"turn": {"$add": [now, TTL]}}}],
        return_document=ReturnDocument.AFTER,
    )
    if entry is None:
        return None
    return QueueLock(int(entry["turn"]), QueueSettings.of(codec.entry(entry.get("value"), 0).value))


def _release(base: Base, locks: Mapping[str, QueueLock]) -> None:
    if not locks:
        return
    over = [
        UpdateOne({"_id": f"queues/{queue}", "turn": lock.until}, {"$set": {"turn": 0}})
        for queue, lock in locks.items()
    ]
    with suppress(PyMongoError), pymongo.timeout(RELEASE_TIMEOUT):
        base["shared"].bulk_write(over, ordered=False)
