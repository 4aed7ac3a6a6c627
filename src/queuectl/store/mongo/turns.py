"""One claim at a time in a queue with a limit: the next counts what this one took.

There are no transactions and no locks that outlive their holder, so a turn is a moment until which it lasts, kept
beside the queue's setting. A take is bound to its turn by the server's clock: a claimer that was held up for longer
than its turn takes nothing. The next turn begins no sooner than `APART` after the last one could still have been used.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pymongo
from msgspec import Struct
from pymongo import ReturnDocument

from queuectl.store import codec
from queuectl.store.mongo.connections import Base
from queuectl.store.mongo.documents import Document

LASTS = 2_000_000
"""Microseconds of a turn, which takes a few thousand."""
APART = 2_000_000
"""Microseconds for which a take that began within its turn may still be at work."""
TRIES, PAUSE = 200, 0.005
"""How often, and after how many seconds, a claim asks for a turn that another one has."""


class Turn(Struct, frozen=True):
    """The right to take from one queue, until a moment of the server's clock, and the queue's setting by then."""

    key: str
    until: int
    setting: dict[str, Any]


@contextmanager
def taken(base: Base, queues: Sequence[str], now: Any) -> Iterator[Mapping[str, Turn]]:
    """Our turns in these queues, while the block lasts. A queue in which others are at it all the time is left out."""
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        for queue in queues:
            turn = _wait(base, queue, now)
            if turn is not None:
                stack.callback(_give_up, base, turn)
                turns[queue] = turn
        yield turns


@contextmanager
def guard(turns: Sequence[Turn], now: Any) -> Iterator[Document]:
    """The condition under which a take is within these turns; what runs in the block ends before the next turn."""
    if not turns:
        yield {}
        return
    with pymongo.timeout(APART / 1_000_000):
        yield {"$expr": {"$lt": [now, min(turn.until for turn in turns)]}}


def _wait(base: Base, queue: str, now: Any) -> Turn | None:
    for _ in range(TRIES):
        turn = _ask(base, queue, now)
        if turn is not None:
            return turn
        threading.Event().wait(PAUSE)
    return None


def _ask(base: Base, queue: str, now: Any) -> Turn | None:
    free = {"$lt": [{"$add": [{"$ifNull": ["$turn", 0]}, APART]}, now]}
    entry = base["shared"].find_one_and_update(
        {"_id": f"queues/{queue}", "$expr": free},
        [{"$set": {"turn": {"$add": [now, LASTS]}}}],
        return_document=ReturnDocument.AFTER,
    )
    return None if entry is None else Turn(queue, entry["turn"], codec.value(entry["value"]))


def _give_up(base: Base, turn: Turn) -> None:
    base["shared"].update_one({"_id": f"queues/{turn.key}", "turn": turn.until}, {"$set": {"turn": 0}})
