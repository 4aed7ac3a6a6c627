"""Reads the index `ready`: the queues with ready jobs, how many of these may be taken, and which are first.

A job that may be claimed now has the field `ready` (its queue); a job that waits for a time has `delayed` instead. The
index holds ready jobs by queue and sort order, so a claim reads only the jobs that it takes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.queue import QueueSettings
from queuectl.store.driver import codec
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document, standing, state_and_queue

QUEUES_PER_QUERY = 100
"""Number of queues in one query. The server merges their index ranges in order; above 200 it would sort all jobs."""
VALID_FOR = 2_000_000
"""Microseconds for which the result of `ready_queues` may be used. After that a queue may have been paused."""

ServerTime = Any
"""The server's time in microseconds, as an aggregation expression."""


class ReadyQueues(Struct, frozen=True):
    """The queues from which jobs may be taken at one time of the server's clock.

    capacities  how many jobs may be taken from each queue that has ready jobs and is not full; None is any number
    until       the last time at which jobs may be taken on the basis of this result
    overdue     whether delayed jobs have become due
    """

    capacities: dict[str, int | None]
    until: int
    overdue: bool

    def without(self, queues: Collection[str]) -> "ReadyQueues":
        """A copy without these queues."""
        return replace(
            self, capacities={queue: count for queue, count in self.capacities.items() if queue not in queues}
        )


def ready_queues(base: Base, named: Sequence[str], now: ServerTime) -> ReadyQueues:
    """The queues with ready jobs, and how many may be taken. Takes one query, or two if a queue has a limit."""
    rows = list(base["jobs"].aggregate(ready_queues_pipeline(list(named), now)))
    settings = {
        row["key"]: QueueSettings.of(codec.entry(row.get("value"), 0).value) for row in rows if "key" in row
    }
    ready = [row["_id"] for row in rows if "_id" in row]
    return ReadyQueues(
        capacities=_capacities(base, {queue: settings.get(queue, QueueSettings()) for queue in ready}),
        until=rows[0]["at"] + VALID_FOR if rows else 0,
        overdue=any("overdue" in row for row in rows),
    )


def ready_queues_pipeline(named: list[str], now: ServerTime) -> list[Document]:
    """A pipeline for the queues with ready jobs, the settings of queues, one overdue delayed job, and the time."""
    ready = {"$in": named} if named else {"$gt": ""}
    entries = [{"$match": {"table": "queues"}}, {"$project": {"_id": 0, "key": 1, "value": 1}}]
    return [
        {"$match": {"ready": ready}},
        {"$group": {"_id": "$ready"}},
        {"$unionWith": {"coll": "shared", "pipeline": entries}},
        {"$unionWith": {"coll": "jobs", "pipeline": overdue_pipeline(now)}},
        {"$addFields": {"at": now}},
    ]


def overdue_pipeline(now: ServerTime) -> list[Document]:
    """A pipeline for one delayed job that is due."""
    return [{"$match": due(now)}, {"$limit": 1}, {"$project": {"_id": 0, "overdue": {"$literal": True}}}]


def due(now: ServerTime) -> Document:
    """The filter for delayed jobs that are due."""
    return {"delayed": {"$exists": True}, "$expr": {"$lte": ["$delayed", now]}}


def _capacities(base: Base, settings: Mapping[str, QueueSettings]) -> dict[str, int | None]:
    """The capacity of each queue that is neither paused nor full."""
    running = count_processing(base, [queue for queue, each in settings.items() if each.limit is not None])
    found = {queue: capacity(each, running[queue]) for queue, each in settings.items()}
    return {queue: count for queue, count in found.items() if count != 0}


def capacity(settings: QueueSettings, processing: int) -> int | None:
    """The number of jobs that may be taken from a queue. None is any number."""
    if settings.paused or settings.limit is None:
        return 0 if settings.paused else None
    return settings.capacity(processing, settings.limit)


def count_processing(base: Base, queues: Sequence[str]) -> Counter[str]:
    """The number of processing jobs of each of these queues."""
    if not queues:
        return Counter()
    names = [standing("processing", queue) for queue in queues]
    rows = base["jobs"].aggregate([
        {"$match": {"standing": {"$in": names}}},
        {"$group": {"_id": "$standing", "n": {"$sum": 1}}},
    ])  # fmt: skip
    return Counter({state_and_queue(row["_id"])[1]: row["n"] for row in rows})


def first_jobs(base: Base, queues: ReadyQueues, wanted: int) -> list[Document]:
    """The first ready jobs of all queues together, in order; from a queue no more than its capacity."""
    capacities, found = dict(queues.capacities), list[Document]()
    while capacities:
        first = within_capacity(_first(base, sorted(capacities), wanted), capacities)
        full = {head["ready"] for head in first.left_out}
        if not full or len(found) + len(first.taken) >= wanted:
            return _in_order([*found, *first.taken])[:wanted]
        # Jobs beyond a capacity hide jobs of other queues: keep the jobs of full queues, query the others again.
        found += [head for head in first.taken if head["ready"] in full]
        capacities = {queue: count for queue, count in capacities.items() if queue not in full}
    return _in_order(found)[:wanted]


class Part(Struct, frozen=True):
    """The jobs within the capacities, and the jobs beyond them."""

    taken: list[Document]
    left_out: list[Document]


def within_capacity(heads: Sequence[Document], capacities: Mapping[str, int | None]) -> Part:
    """Split jobs, in order, into jobs within the capacity of their queue and jobs beyond it."""
    used, part = Counter[str](), Part([], [])
    for head in heads:
        free = capacities[head["ready"]]
        fits = free is None or used[head["ready"]] < free
        used[head["ready"]] += 1
        (part.taken if fits else part.left_out).append(head)
    return part


def _first(base: Base, queues: list[str], limit: int) -> list[Document]:
    heads = list[Document]()
    for start in range(0, len(queues), QUEUES_PER_QUERY):
        ready = {"ready": {"$in": queues[start : start + QUEUES_PER_QUERY]}}
        found = base["jobs"].find(ready, {"sort_key": 1, "ready": 1}).sort([("sort_key", 1), ("_id", 1)])
        heads += found.limit(limit).batch_size(limit)
    return _in_order(heads)[:limit]


def _in_order(heads: list[Document]) -> list[Document]:
    """Sort by sort_key and number. A job without a valid sort_key is first, so that a claim sets it aside."""
    return sorted(heads, key=lambda head: (_as_number(head.get("sort_key")), _as_number(head["_id"])))


def _as_number(value: Any) -> float:
    return value if isinstance(value, int | float) else float("-inf")
