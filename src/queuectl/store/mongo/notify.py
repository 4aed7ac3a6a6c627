"""Sends and reads the notifications between clients of MongoDB: a counter for each topic, and a log.

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
"""The size of the log. The log is small because no reader needs old entries."""
_COUNTED, _LOGGED = WriteConcern(1), WriteConcern(1, j=True)


def send(base: Base, touched: Topics) -> None:
    """Send a notification for each of these topics that had none within the last 50 ms."""
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
        # A change stream shows a write when most members have it in their journals: up to 100 ms later without j.
        base.get_collection("rings", write_concern=_LOGGED).insert_one({"bell": name})


def follow(base: Base, patience_ms: int) -> "Cursor[Document]":
    """Yields the log from its beginning, and new entries as they arrive.

    Ends at once if the collection is not capped.
    """
    return base["rings"].find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(patience_ms)


def stream(base: Base, patience_ms: int) -> "CollectionChangeStream[Document]":
    """Yields new entries of the log. Raises OperationFailure if the server has no change streams."""
    added = [{"$match": {"operationType": "insert"}}]
    return base["rings"].watch(added, max_await_time_ms=patience_ms)


def counters(base: Base) -> dict[str, int]:
    """The number of notifications so far, by the stored name of the topic."""
    return {bell["_id"]: bell["rings"] for bell in base["bells"].find()}
