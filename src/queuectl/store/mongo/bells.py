"""What tells those who wait: two documents whose counters rise, `work` and `end`.

They ring after what they tell of is stored, at most once in 50 ms over all clients, and are lost if their ringer dies
just then: whoever listens looks now and then without being told.
"""

from pymongo import WriteConcern

from queuectl.store.mongo.connections import Base

WORK, END = "work", "end"
SELDOM_MS = 50
_JUST_HEARD = WriteConcern(1)


def ring(base: Base, which: str) -> None:
    """Tell who waits, unless they were told a moment ago."""
    base.get_collection("bells", write_concern=_JUST_HEARD).update_one(
        {"_id": which, "$expr": {"$lt": ["$at", {"$subtract": ["$$NOW", SELDOM_MS]}]}},
        [{"$set": {"at": "$$NOW", "rings": {"$add": ["$rings", 1]}}}],
    )


def rings(base: Base) -> dict[str, int]:
    """How often each has rung."""
    return {bell["_id"]: bell["rings"] for bell in base["bells"].find()}
