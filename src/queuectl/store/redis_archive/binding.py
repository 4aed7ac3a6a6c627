"""Which archive belongs to which queue: a wrong address would let the queue forget what it has handed over.

The queue has a name for it, made when it was first opened with an archive. The first who reaches a database marks it
with that name and a mark of its own, and notes the mark in the queue: from then on both are bound, and neither takes
another. An archive that was moved to another address is the same one.
"""

import re

from queuectl.clock import random_bytes
from queuectl.errors import StoreUnusable
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.schema import ARCHIVE
from queuectl.store.redis.connect import RedisSession
from queuectl.store.redis_archive import transfer
from queuectl.store.redis_archive.transfer import Binding


def bind(connections: RedisSession, base: Base, shown: str) -> None:
    """Let the database be the queue's archive. Raises StoreUnusable if either has another already."""
    known = connections.read(transfer.binding)
    is_used = (
        base["jobs"].find_one({}, {"_id": 1}) is not None
    )  # asked before the mark: who marks it may use it at once
    mark = base["counters"].find_one(ARCHIVE)
    if mark is None and known.mark is None:
        mark = _mark(base, known.queue, shown, is_used=is_used)
    if mark is None:
        raise _wrong(shown, known)
    if mark.get("queue") != known.queue:
        raise _strange(shown, str(mark.get("queue")), connections.address.tag)
    if (known.mark, _place(known.shown)) != (mark.get("mark"), _place(shown)):
        known = connections.write(lambda line: transfer.bind(line, str(mark.get("mark")), shown))
        if known.mark != mark.get("mark"):
            raise _wrong(shown, known)


def _place(shown: str | None) -> str:
    """An address without the user: who may only read and logs in as somebody else has nothing new to note."""
    return re.sub("//[^@/]*@", "//", shown or "")


def _mark(base: Base, queue: str, shown: str, *, is_used: bool) -> dict[str, object] | None:
    """Mark a database that has no mark; what is then found there."""
    if is_used:
        raise StoreUnusable(f"{shown} holds a queue of its own", "name a database for the archive alone")
    fresh = {"queue": queue, "mark": random_bytes(8).hex()}
    base["counters"].update_one(ARCHIVE, {"$setOnInsert": fresh}, upsert=True)
    return base["counters"].find_one(ARCHIVE)


def _wrong(shown: str, known: Binding) -> StoreUnusable:
    return StoreUnusable(
        f"{shown} is not this queue's archive, which is {known.shown}", "look at archive= in the store's URL"
    )


def _strange(shown: str, owner: str, tag: str) -> StoreUnusable:
    takes_over = f"redis-cli HSET '{tag}:archive' queue {owner}"
    return StoreUnusable(
        f"{shown} is the archive of another queue",
        f"name another database; or, if Redis has lost that queue, run: {takes_over}",
    )
