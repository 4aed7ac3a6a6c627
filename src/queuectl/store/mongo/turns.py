"""One claim at a time in a queue with a limit: the next counts what this one took.

There are no transactions and no locks that outlive their holder, so a turn is a moment until which it lasts, kept
beside the queue's setting. A take is bound to its turn by the server's clock: a claimer that was held up for longer
than its turn takes nothing. The next turn begins no sooner than `APART` after the last one could still have been used.
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
from queuectl.store.mongo import lines
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.documents import Document

LASTS = 2_000_000
"""Microseconds of a turn, which takes a few thousand."""
APART = 2_000_000
"""Microseconds for which a take that began within its turn may still be at work."""
FAREWELL = 0.5
"""Seconds for which giving up turns may take: they end by themselves."""


class Turn(Struct, frozen=True):
    """The right to take from one queue, until a moment of the server's clock, and the queue's setting by then."""

    until: int
    setting: dict[str, Any]


@contextmanager
def taken(base: Base, queues: Sequence[str], now: Any) -> Iterator[Mapping[str, Turn]]:
    """Our turns in those of the queues in which nobody else has his, while the block lasts."""
    asked = {queue: _ask(base, queue, now) for queue in queues}
    turns = {queue: turn for queue, turn in asked.items() if turn is not None}
    try:
        yield turns
    finally:
        _give_up(base, turns)


def rooms(base: Base, turns: Mapping[str, Turn]) -> dict[str, int | None]:
    """How many jobs each of these queues has room for: nobody else takes any before our turns are over."""
    running = lines.processing(base, list(turns))
    return {queue: _room(turn.setting, running[queue]) for queue, turn in turns.items()}


def _room(setting: Mapping[str, Any], running: int) -> int | None:
    limit = setting.get("limit")
    return room(setting, running, limit) if limit is not None else None if room(setting, 0, 1) else 0


@contextmanager
def in_time(until: int, now: Any) -> Iterator[Document]:
    """The condition that it is not later than a moment; what runs in the block ends soon after it, or is given up."""
    with pymongo.timeout(APART / 1_000_000):
        yield {"$expr": {"$lt": [now, until]}}


def _ask(base: Base, queue: str, now: Any) -> Turn | None:
    free = {"$lt": [{"$add": [{"$cond": [{"$isNumber": "$turn"}, "$turn", 0]}, APART]}, now]}
    entry = for_changing_one(base["shared"]).find_one_and_update(
        {"_id": f"queues/{queue}", "$expr": free},
        [{"$set": {"turn": {"$add": [now, LASTS]}}}],
        return_document=ReturnDocument.AFTER,
    )
    return None if entry is None else Turn(int(entry["turn"]), codec.entry(entry.get("value"), 0).value)


def _give_up(base: Base, turns: Mapping[str, Turn]) -> None:
    if not turns:
        return
    over = [
        UpdateOne({"_id": f"queues/{queue}", "turn": turn.until}, {"$set": {"turn": 0}})
        for queue, turn in turns.items()
    ]
    with suppress(PyMongoError), pymongo.timeout(FAREWELL):
        base["shared"].bulk_write(over, ordered=False)
