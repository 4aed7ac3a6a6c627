"""What tells those who wait: two documents whose counters rise, `work` and `end`, and a little log of their rings.

They ring after what they tell of is stored, at most once in 50 ms over all clients, and are lost if their ringer dies
just then: whoever listens looks now and then without being told. Who polls looks at the counters; who listens follows
the log: by a change stream in a replica set, and elsewhere as the capped collection that it is.
"""

from typing import TYPE_CHECKING

from pymongo import CursorType, WriteConcern

from queuectl.store.mongo.connect import Base

if TYPE_CHECKING:
    from pymongo.change_stream import CollectionChangeStream
    from pymongo.cursor import Cursor

    from queuectl.store.mongo.documents import Document

WORK, END = "work", "end"
SELDOM_MS = 50
LOGGED = {"capped": True, "size": 4096, "max": 32}
"""How long the log is: nobody reads what rang before."""
_JUST_HEARD, _WRITTEN = WriteConcern(1), WriteConcern(1, j=True)


def send(base: Base, which: str) -> None:
    """Tell who waits, unless they were told a moment ago."""
    long_ago = {"$lt": ["$at", {"$subtract": ["$$NOW", SELDOM_MS]}]}
    not_yet = {"$gt": ["$at", "$$NOW"]}  # the clock was set back
    rung = base.get_collection("bells", write_concern=_JUST_HEARD).update_one(
        {"_id": which, "$expr": {"$or": [long_ago, not_yet]}},
        [{"$set": {"at": "$$NOW", "rings": {"$add": ["$rings", 1]}}}],
    )
    if rung.matched_count:
        # Change streams tell of what most members have in their journals: without j, up to 100 ms later.
        base.get_collection("rings", write_concern=_WRITTEN).insert_one({"bell": which})


def follow(base: Base, patience_ms: int) -> "Cursor[Document]":
    """The log as it grows, what is in it first. It ends at once where it is no capped collection."""
    return base["rings"].find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(patience_ms)


def stream(base: Base, patience_ms: int) -> "CollectionChangeStream[Document]":
    """What is added to the log from now on. Raises OperationFailure where there are no change streams."""
    added = [{"$match": {"operationType": "insert"}}]
    return base["rings"].watch(added, max_await_time_ms=patience_ms)


def counters(base: Base) -> dict[str, int]:
    """How often each has rung."""
    return {bell["_id"]: bell["rings"] for bell in base["bells"].find()}
