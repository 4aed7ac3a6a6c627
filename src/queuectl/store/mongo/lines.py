"""The lines that jobs wait in: which queues have something ready, how much may be taken of it, and who stands first."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.queue import room
from queuectl.store.driver import codec
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document, standing, state_and_queue
from queuectl.store.protocol import DUE_LOOKED_AT

MERGED = 100
"""Queues whose lines one query merges in order; with more than 200 the server would sort all that is ready."""
HOLDS = 2_000_000
"""Microseconds for which a look may be acted upon: later, a queue may have been paused."""

Moment = Any
"""The server's time in microseconds, as an expression."""


class Look(Struct, frozen=True):
    """What may be taken, as it was at a moment of the server's clock.

    rooms    how many jobs, for each queue that has some ready and gives some; None is as many as there are
    until    the last moment at which something may be taken because of this look
    overdue  whether delayed jobs became due
    """

    rooms: dict[str, int | None]
    until: int
    overdue: bool

    def without(self, queues: Collection[str]) -> "Look":
        """The same but for these queues."""
        return replace(self, rooms={queue: room for queue, room in self.rooms.items() if queue not in queues})


def look(base: Base, named: Sequence[str], now: Moment) -> Look:
    """Everything that decides where the first jobs are: one question, and another where queues have limits."""
    rows = list(base["jobs"].aggregate(looking(list(named), now)))
    settings: dict[str, Any] = {
        row["key"]: codec.entry(row.get("value"), 0).value for row in rows if "key" in row
    }
    ready = [row["_id"] for row in rows if "_id" in row]
    return Look(
        rooms=_rooms(base, {queue: settings.get(queue, {}) for queue in ready}),
        until=rows[0]["at"] + HOLDS if rows else 0,
        overdue=any("overdue" in row for row in rows),
    )


def looking(named: list[str], now: Moment) -> list[Document]:
    """The queues with something ready, the settings of queues, one delayed job whose time has come, and the time."""
    ready = {"$in": named} if named else {"$gt": ""}
    entries = [{"$match": {"table": "queues"}}, {"$project": {"_id": 0, "key": 1, "value": 1}}]
    return [
        {"$match": {"ready": ready}},
        {"$group": {"_id": "$ready"}},
        {"$unionWith": {"coll": "shared", "pipeline": entries}},
        {"$unionWith": {"coll": "jobs", "pipeline": overdue(now)}},
        {"$addFields": {"at": now}},
    ]


def overdue(now: Moment) -> list[Document]:
    """One delayed job whose time has come."""
    return [{"$match": due(now)}, {"$limit": 1}, {"$project": {"_id": 0, "overdue": {"$literal": True}}}]


def due(now: Moment) -> Document:
    """The delayed jobs whose time has come."""
    return {"delayed": {"$exists": True}, "$expr": {"$lte": ["$delayed", now]}}


def _rooms(base: Base, settings: Mapping[str, Any]) -> dict[str, int | None]:
    """As `domain.queue.room` says, for each queue that gives something."""
    limited = [queue for queue, setting in settings.items() if setting.get("limit") is not None]
    running = processing(base, limited)
    rooms: dict[str, int | None] = {}
    for queue, setting in settings.items():
        if queue not in limited:
            rooms |= {queue: None} if room(setting, 0, 1) else {}
        elif free := room(setting, running[queue], setting["limit"]):
            rooms[queue] = free
    return rooms


def processing(base: Base, queues: Sequence[str]) -> Counter[str]:
    """How many jobs of each of these queues run."""
    if not queues:
        return Counter()
    names = [standing("processing", queue) for queue in queues]
    rows = base["jobs"].aggregate([
        {"$match": {"standing": {"$in": names}}},
        {"$group": {"_id": "$standing", "n": {"$sum": 1}}},
    ])  # fmt: skip
    return Counter({state_and_queue(row["_id"])[1]: row["n"] for row in rows})


def heads(base: Base, look: Look, wanted: int) -> list[Document]:
    """The first jobs of all lines together, in order; of a queue no more than it has room for."""
    rooms, found = dict(look.rooms), list[Document]()
    while rooms:
        first = within(_first(base, sorted(rooms), wanted), rooms)
        full = {head["ready"] for head in first.left_out}
        if not full or len(found) + len(first.taken) >= wanted:
            return _in_order([*found, *first.taken])[:wanted]
        # Behind those that give no more there may be others: what stands in a full line is settled.
        found += [head for head in first.taken if head["ready"] in full]
        rooms = {queue: room for queue, room in rooms.items() if queue not in full}
    return _in_order(found)[:wanted]


class Part(Struct, frozen=True):
    """Heads for which there is room, and those for which there is none."""

    taken: list[Document]
    left_out: list[Document]


def within(heads: Sequence[Document], rooms: Mapping[str, int | None]) -> Part:
    """The heads of which each queue has room for, in their order."""
    used, part = Counter[str](), Part([], [])
    for head in heads:
        free = rooms[head["ready"]]
        fits = free is None or used[head["ready"]] < free
        used[head["ready"]] += 1
        (part.taken if fits else part.left_out).append(head)
    return part


def _first(base: Base, queues: list[str], limit: int) -> list[Document]:
    heads = list[Document]()
    for start in range(0, len(queues), MERGED):
        lines = {"ready": {"$in": queues[start : start + MERGED]}}
        found = base["jobs"].find(lines, {"sort_key": 1, "ready": 1}).sort([("sort_key", 1), ("_id", 1)])
        heads += found.limit(limit).batch_size(limit)
    return _in_order(heads)[:limit]


def _in_order(heads: list[Document]) -> list[Document]:
    """By sort_key and number. A head without a number to sort by comes first: who takes it finds it damaged."""
    return sorted(heads, key=lambda head: (_as_number(head.get("sort_key")), _as_number(head["_id"])))


def _as_number(value: Any) -> float:
    return value if isinstance(value, int | float) else float("-inf")


def due_since(base: Base, now: Moment) -> dict[str, datetime]:
    """For each queue, since when the job that waits longest has been due."""
    queues = [row["_id"] for row in base["jobs"].aggregate(_THERE)]
    rows = list(base["jobs"].aggregate(_longest_overdue(now)))
    for start in range(0, len(queues), MERGED):
        first, *others = [_longest_in(queue) for queue in queues[start : start + MERGED]]
        united: list[Document] = [{"$unionWith": {"coll": "jobs", "pipeline": other}} for other in others]
        rows += base["jobs"].aggregate([*first, *united])
    since = dict[str, datetime]()
    for row in rows:
        due_at = codec.nearest(row["since"])
        since[row["_id"]] = min(due_at, since.get(row["_id"], due_at))
    return since


_THERE: list[Document] = [{"$match": {"ready": {"$gt": ""}}}, {"$group": {"_id": "$ready"}}]
_LONGEST: Document = {"$group": {"_id": "$queue", "since": {"$min": "$run_at"}}}


def _longest_in(queue: str) -> list[Document]:
    """Along the index, no further than a claim of so many jobs would go."""
    first: list[Document] = [
        {"$match": {"ready": queue}},
        {"$sort": {"sort_key": 1, "_id": 1}},
        {"$limit": DUE_LOOKED_AT},
    ]
    return [*first, _LONGEST]


def _longest_overdue(now: Moment) -> list[Document]:
    return [{"$match": due(now)}, {"$sort": {"delayed": 1, "_id": 1}}, {"$limit": 1000}, _LONGEST]
