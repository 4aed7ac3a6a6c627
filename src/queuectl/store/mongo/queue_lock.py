"""One claim at a time in a queue with a limit: the next counts what this one took.

There are no transactions and no locks that outlive their holder, so a lock is a moment until which it lasts, kept
beside the queue's settings. A take is bound to its lock by the server's clock: a claimer that was held up for longer
than its lock takes nothing. The next lock begins no sooner than `GUARD_INTERVAL` after the end of
the last one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymongo
from msgspec import Struct
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import PyMongoError

from queuectl.domain.queue import room
from queuectl.store.driver import codec
from queuectl.store.mongo import ready_index
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.documents import Document

TTL = 2_000_000
"""Microseconds of a lock, which takes a few thousand."""
GUARD_INTERVAL = 2_000_000
"""Microseconds for which a take that began within its lock may still be at work."""
RELEASE_TIMEOUT = 0.5
"""Seconds for which giving up locks may take: they end by themselves."""


class QueueLock(Struct, frozen=True):
    """The right to take from one queue, until a moment of the server's clock, and the queue's settings by then."""

    until: int
    settings: dict[str, Any]


@contextmanager
def acquired(base: Base, queues: Sequence[str], now: Any) -> Iterator[Mapping[str, QueueLock]]:
    """Our locks in those of the queues in which nobody else has his, while the block lasts."""
    asked = {queue: _acquire(base, queue, now) for queue in queues}
    locks = {queue: lock for queue, lock in asked.items() if lock is not None}
    try:
        yield locks
    finally:
        _release(base, locks)


def capacities(base: Base, locks: Mapping[str, QueueLock]) -> dict[str, int | None]:
    """How many jobs each of these queues has room for: nobody else takes any before our locks are over."""
    running = ready_index.count_processing(base, list(locks))
    return {queue: _capacity(lock.settings, running[queue]) for queue, lock in locks.items()}


def _capacity(settings: Mapping[str, Any], running: int) -> int | None:
    limit = settings.get("limit")
    return room(settings, running, limit) if limit is not None else None if room(settings, 0, 1) else 0


@contextmanager
def not_after(until: int, now: Any) -> Iterator[Document]:
    """The condition that it is not later than a moment; what runs in the block ends soon after it, or is given up."""
    with pymongo.timeout(GUARD_INTERVAL / 1_000_000):
        yield {"$expr": {"$lt": [now, until]}}


def _acquire(base: Base, queue: str, now: Any) -> QueueLock | None:
    free = {"$lt": [{"$add": [{"$cond": [{"$isNumber": "$turn"}, "$turn", 0]}, GUARD_INTERVAL]}, now]}
    entry = for_changing_one(base["shared"]).find_one_and_update(
        {"_id": f"queues/{queue}", "$expr": free},
        [{"$set": {"turn": {"$add": [now, TTL]}}}],
        return_document=ReturnDocument.AFTER,
    )
    return None if entry is None else QueueLock(int(entry["turn"]), codec.entry(entry.get("value"), 0).value)


def _release(base: Base, locks: Mapping[str, QueueLock]) -> None:
    if not locks:
        return
    over = [
        UpdateOne({"_id": f"queues/{queue}", "turn": lock.until}, {"$set": {"turn": 0}})
        for queue, lock in locks.items()
    ]
    with suppress(PyMongoError), pymongo.timeout(RELEASE_TIMEOUT):
        base["shared"].bulk_write(over, ordered=False)
