"""Binds a queue to its archive. Otherwise a wrong URL would make the queue forget jobs that another archive has.

A queue gets a name when it is first opened with an archive. The first process that reaches a database marks it with
that name and with a mark of its own, and stores the mark in the queue. After that both are bound, and neither accepts
another one. The mark moves with the database, so an archive may move to another address.
"""

import re

from queuectl.clock import random_bytes
from queuectl.errors import StoreUnusable
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.schema import ARCHIVE
from queuectl.store.redis_archive.transfer import Binding, Transfer


def bind(queue: Transfer, base: Base, shown: str) -> None:
    """Make the database the archive of the queue. Raises StoreUnusable if one of them is bound to another one."""
    known = queue.binding()
    # Read before the mark: a process that has marked the database may use it at once, and belongs to this queue.
    is_used = base["jobs"].find_one({}, {"_id": 1}) is not None
    mark = base["counters"].find_one(ARCHIVE)
    if mark is None and known.mark is None:
        mark = _mark(base, known.queue, shown, is_used=is_used)
    if mark is None:
        raise _wrong(shown, known)
    if mark.get("queue") != known.queue:
        raise _of_another(shown, str(mark.get("queue")), queue.session.address.tag)
    if (known.mark, _host(known.shown)) != (mark.get("mark"), _host(shown)):
        known = queue.bind(str(mark.get("mark")), shown)
        if known.mark != mark.get("mark"):
            raise _wrong(shown, known)


def _host(shown: str | None) -> str:
    """A URL without its user, so that a client with another user does not change the stored URL."""
    return re.sub("//[^@/]*@", "//", shown or "")


def _mark(base: Base, queue: str, shown: str, *, is_used: bool) -> dict[str, object] | None:
    """Mark an unmarked database. Returns its mark, which another process may have written."""
    if is_used:
        raise StoreUnusable(f"{shown} holds a queue of its own", "name a database for the archive alone")
    fresh = {"queue": queue, "mark": random_bytes(8).hex()}
    base["counters"].update_one(ARCHIVE, {"$setOnInsert": fresh}, upsert=True)
    return base["counters"].find_one(ARCHIVE)


def _wrong(shown: str, known: Binding) -> StoreUnusable:
    return StoreUnusable(
        f"{shown} is not this queue's archive, which is {known.shown}", "look at archive= in the store's URL"
    )


def _of_another(shown: str, owner: str, tag: str) -> StoreUnusable:
    takes_over = f"redis-cli HSET '{tag}:archive' queue {owner}"
    return StoreUnusable(
        f"{shown} is the archive of another queue",
        f"name another database; or, if Redis has lost that queue, run: {takes_over}",
    )
