"""Reads jobs by id, or by filter page by page, and counts jobs."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import json
from msgspec.structs import replace

from queuectl.domain.job import STATES, TERMINAL, Job, State
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Sort, Unreadable
from queuectl.store.driver import codec, filters, paging
from queuectl.store.mongo import documents, ended_counts
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document, standing, state_and_queue

_ORDERS: dict[Sort, list[tuple[str, int]]] = {
    "created": [("_id", -1)],
    "updated": [("updated_at", -1), ("_id", -1)],
    "next": [("sort_key", 1), ("_id", 1)],
    "number": [("_id", 1)],
    "ended": [("finished_at", -1), ("_id", -1)],
}
UNITED = 100
"""Number of counts in one query."""
_COUNTED = ("pending", "failed", "blocked", "held", "processing")
"""The order in which states are counted. A job that is claimed meanwhile is counted twice and not missed."""


def get(base: Base, ids: Sequence[str]) -> Jobs:
    """The jobs with these ids."""
    wanted = {"id": {"$in": list(ids)}, "state": {"$exists": True}}  # a deleted job has no state
    found = base["jobs"].find(wanted).batch_size(len(ids) + 1)
    return Jobs(*codec.sift(found, documents.job))


def find(base: Base, wanted: Filter, page: Page) -> Found:
    """One page. One more job is read, which shows whether another page follows."""
    if page.sort == "ended":
        wanted = replace(wanted, states=wanted.states & TERMINAL if wanted.states else TERMINAL)
        if not wanted.states:
            return Found([], None)
    condition = conditions(wanted)
    if page.sort in ("created", "number"):
        condition |= _along(base, wanted)
    if page.sort in ("updated", "ended") and wanted.states and wanted.states <= TERMINAL:
        condition.setdefault("finished_at", {"$exists": True})  # so that the index of ended jobs can be used
    if page.after is not None:
        condition["$or"] = _after(page)
    order = _ORDERS[page.sort]

    def look(count: int) -> tuple[list[Job], list[Unreadable]]:
        found = base["jobs"].find(condition).sort(order).limit(count).batch_size(count + 1)
        return codec.sift(found.allow_disk_use(True), documents.job)

    return paging.found(look, page)


def _along(base: Base, wanted: Filter) -> Document:
    """The condition for reading a page of some states from one index.

    Jobs change their state while a page is read. A query for pending jobs and other states must not miss a job that
    moves between these states, so it uses an index in which a change of state moves no job.
    """
    if "pending" in wanted.states and len(wanted.states) > 1:
        return {} if wanted.states & TERMINAL else {"live": True}
    if not wanted.states and wanted.queue is None:
        return {}
    return {"standing": {"$in": _standings(wanted, _there(base) if wanted.queue is None else ())}}


def _after(page: Page) -> list[Document]:
    """The conditions for the jobs after the position in the cursor."""
    assert page.after is not None
    place, *rest = paging.parse_cursor(page.after, page.sort)
    if page.sort == "created":
        return [{"_id": {"$lt": -place}}]
    if page.sort == "number":
        return [{"_id": {"$gt": place}}]
    if page.sort in ("updated", "ended"):
        field = "updated_at" if page.sort == "updated" else "finished_at"
        return [{field: {"$lt": -place}}, {field: -place, "_id": {"$lt": -rest[0]}}]
    return [{"sort_key": {"$gt": place}}, {"sort_key": place, "_id": {"$gt": rest[0]}}]


def counts(base: Base, wanted: Filter) -> Counts:
    """The number of jobs per queue and state. Ended jobs come from the stored counts if the filter allows that."""
    return filters.sums((queue, state, n) for state, queue, n in sorted(_counted(base, wanted)) if n)


def _counted(base: Base, wanted: Filter) -> list[tuple[State, str, int]]:
    filters.literals(wanted.states)  # called only because it refuses an unknown state
    if not filters.has_sums(wanted):
        return _count_each(base, wanted)
    counted = _count_living(base, wanted)
    if not wanted.states or wanted.states & TERMINAL:
        totals = ended_counts.by_queue(ended_counts.read(base))
        counted += [row for row in totals if filters.counted(row[1], row[0], wanted)]
    return counted


def last_number(base: Base) -> int:
    """The highest number that was assigned."""
    counter = base["counters"].find_one({"_id": "number"})
    return int(counter["n"]) if counter else 0


def _count_each(base: Base, wanted: Filter) -> list[tuple[State, str, int]]:
    each = {"_id": {"state": "$state", "queue": "$queue"}, "n": {"$sum": 1}}
    rows = base["jobs"].aggregate([{"$match": conditions(wanted)}, {"$group": each}])
    return [(row["_id"]["state"], row["_id"]["queue"], row["n"]) for row in rows]


def _count_living(base: Base, wanted: Filter) -> list[tuple[State, str, int]]:
    """Count along the index of standings, in the order in which jobs move from state to state."""
    there = set(_there(base))
    names = [
        name
        for name in _standings(wanted, there)
        if name.startswith("processing ") or (name in there and state_and_queue(name)[0] in _COUNTED)
    ]
    rows = list[tuple[State, str, int]]()
    for start in range(0, len(names), UNITED):
        for row in base["jobs"].aggregate(counting(names[start : start + UNITED])):
            rows.append((*state_and_queue(row["standing"]), row["n"]))
    return rows


def counting(names: Sequence[str]) -> list[Document]:
    """A pipeline that counts the jobs of each standing in one query, one standing after the other."""
    first, *others = [_count(name) for name in names]
    return [*first, *({"$unionWith": {"coll": "jobs", "pipeline": other}} for other in others)]


def _count(name: str) -> list[Document]:
    return [{"$match": {"standing": name}}, {"$count": "n"}, {"$set": {"standing": {"$literal": name}}}]


def _there(base: Base) -> list[str]:
    """All standings of jobs at this time."""
    return list(base["jobs"].distinct("standing", {"standing": {"$gt": ""}}))


def _standings(wanted: Filter, there: Iterable[str]) -> list[str]:
    """All combinations of a state of the filter and a queue, because a job may change its state between two queries."""
    states, queues = wanted.states or STATES, {state_and_queue(name)[1] for name in there}
    if wanted.queue is not None:
        queues = {wanted.queue}
    return [standing(state, queue) for state in _ORDER if state in states for queue in sorted(queues)]


_ORDER = (*_COUNTED, *sorted(TERMINAL))


def conditions(wanted: Filter) -> Document:
    """A filter as a query. A deleted job has no state, so it never matches."""
    filters.literals(wanted.states)  # called only because it refuses an unknown state
    terms: Document = {"state": {"$in": sorted(wanted.states)} if wanted.states else {"$exists": True}}
    for field, bound in filters.asked(wanted):
        terms |= _TERMS[field](bound)
    return terms


_TERMS: dict[str, Any] = {
    "queue": lambda bound: {"queue": bound[0]},
    "tag": lambda bound: {"tags": bound[0]},
    "batch": lambda bound: {"batch": bound[0]},
    "created_since": lambda bound: {"created_at": {"$gte": bound[0]}},
    "ended_before": lambda bound: {"finished_at": {"$lt": bound[0]}, "live": {"$exists": False}},
    "id_prefix": lambda bound: {"id": {"$gte": bound[0], "$lte": bound[1]}},
    "ids": lambda bound: {"$and": [{"id": {"$in": json.decode(bound[0])}}]},  # `id_prefix` sets `id`
    "number": lambda bound: {"_id": bound[0]},
    "unique_key": lambda bound: {"unique_key": bound[0]},
    "waiting_for": lambda bound: {"waiting_for": {"$in": json.decode(bound[0])}},
    "worker": lambda bound: {"worker": bound[0], "lease_until": {"$exists": True}},
}
