"""The notifications that clients of MongoDB send to each other: a counter for each topic, and a log.

A client sends after the change is stored, at most once in 50 ms for each topic over all clients. If it dies in
between, the notification is lost. A client that polls reads the counters. A client that listens follows the log: with
a change stream in a replica set, and with a tailable cursor on the capped collection on a standalone server.

The collections are called `bells` and `rings`, and the topic `ends` is called `end` there.
"""

from typing import TYPE_CHECKING

from pymongo import CursorType, WriteConcern

from queuectl.domain.topics import Topics
from queuectl.store.driver.notifier import STORED_NAMES
from queuectl.store.mongo.connect import Base

if TYPE_CHECKING:
    from pymongo.change_stream import CollectionChangeStream
    from pymongo.cursor import Cursor

    from queuectl.store.mongo.documents import Document

SELDOM_MS = 50
LOGGED = {"capped": True, "size": 4096, "max": 32}
"""The size of the log. It is small because no reader needs old entries."""
_COUNTED, _LOGGED = WriteConcern(1), WriteConcern(1, j=True)


def send(base: Base, touched: Topics) -> None:
    """Notify of these topics, except of those with a notification within the last 50 ms."""
    for name, topic in STORED_NAMES.items():
        if topic in touched:
            _send(base, name)


def _send(base: Base, name: str) -> None:
    long_ago = {"$lt": ["$at", {"$subtract": ["$$NOW", SELDOM_MS]}]}
    not_yet = {"$gt": ["$at", "$$NOW"]}  # the clock was set back
    counted = base.get_collection("bells", write_concern=_COUNTED).update_one(
        {"_id": name, "$expr": {"$or": [long_ago, not_yet]}},
        [{"$set": {"at": "$$NOW", "rings": {"$add": ["$rings", 1]}}}],
    )
    if counted.matched_count:
        # Change streams show what most members have in their journals: without j, up to 100 ms later.
        base.get_collection("rings", write_concern=_LOGGED).insert_one({"bell": name})


def follow(base: Base, patience_ms: int) -> "Cursor[Document]":
    """The log from its beginning, and new entries as they arrive. Ends at once if the collection is not capped."""
    return base["rings"].find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(patience_ms)


def stream(base: Base, patience_ms: int) -> "CollectionChangeStream[Document]":
    """New entries of the log from now on. Raises OperationFailure if the server has no change streams."""
    added = [{"$match": {"operationType": "insert"}}]
    return base["rings"].watch(added, max_await_time_ms=patience_ms)


def counters(base: Base) -> dict[str, int]:
    """The number of notifications so far, by the stored name of the topic."""
    return {bell["_id"]: bell["rings"] for bell in base["bells"].find()}
