"""Which archive belongs to which queue: a wrong address would let the queue forget what it has handed over.

The queue has a name for it, made when it was first opened with an archive. The database is marked with that name by the
first who reaches it; from then on both are bound, and neither takes another.
"""

from queuectl.errors import StoreUnusable
from queuectl.store.mongo.connections import Base
from queuectl.store.mongo.schema import ARCHIVE
from queuectl.store.redis import archiving
from queuectl.store.redis.connections import Connections


def bind(connections: Connections, base: Base, shown: str) -> None:
    """Let the database be the queue's archive. Raises StoreUnusable if either has another already."""
    queue, bound = connections.read(archiving.bound)
    owner = _owner(base)
    if owner is None and bound is None:
        _refuse_queue(base, shown)
        base["counters"].update_one(ARCHIVE, {"$setOnInsert": {"queue": queue}}, upsert=True)
        owner = _owner(base)
    if owner is None:
        raise StoreUnusable(
            f"{shown} is not this queue's archive, which is {bound}", "look at archive= in the store's URL"
        )
    if owner != queue:
        key = f"{connections.address.tag}:archive"
        raise StoreUnusable(
            f"{shown} is the archive of another queue",
            f"name another database; or, if Redis has lost that queue, run: redis-cli HSET '{key}' queue {owner}",
        )
    if bound != shown:
        connections.write(lambda line: archiving.bind(line, shown))


def _owner(base: Base) -> str | None:
    mark = base["counters"].find_one(ARCHIVE)
    return None if mark is None else str(mark.get("queue"))


def _refuse_queue(base: Base, shown: str) -> None:
    """A database that holds a queue of MongoDB's own is none for the past of another."""
    if base["jobs"].find_one({}, {"_id": 1}) is not None:
        raise StoreUnusable(f"{shown} holds a queue of its own", "name a database for the archive alone")
