"""How many jobs of a queue have ended in a state, exactly, without looking at them and without transactions.

The ledger is one document. A job that has ended is `owed` until the ledger has counted it; what the ledger has counted
a job as stands in its `counted`. So at every moment the truth is the totals, corrected by the few jobs that are owed,
and by those it has counted that have come back to life or are deleted.

Folding brings such jobs into the totals: one write of the totals changes the sums and names, as `planned`, the jobs
that they now hold; then those jobs are told so; then the plan is struck out. Whoever finds a plan finishes it: every
step can be repeated, by several at once. Each fold has a number, kept by the jobs it told, so that a folder that was
held up changes nothing that a later one has told anew.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.json import decode

from queuectl.domain.job import TERMINAL
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.driver import codec
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document, standing, state_and_queue

MERGED_AT_ONCE = 2000
MERGE_THRESHOLD = 500
"""So many jobs may be owed before a worker folds; whoever counts looks at them all."""
READ_ATTEMPTS = 20

_REVIVED: Document = {"live": True, "counted": {"$exists": True}}
_UNCOUNTED: Document = {"owed": True}
_FIELDS = {"state": 1, "queue": 1, "counted": 1, "told": 1}


class Totals(Struct, frozen=True):
    """The document: the number of its last fold, the sums, and the jobs that fold has not all told yet."""

    fold: int
    counts: dict[str, int]
    planned: dict[str, list[int]]
    """Numbers of jobs by what they are counted as now; "" for nothing."""

    def unmarked(self) -> dict[int, str]:
        """The plan by number."""
        return {number: name for name, numbers in self.planned.items() for number in numbers}


def read(base: Base) -> dict[str, int]:
    """How many jobs have ended, by standing. The ledger is read before and after: no fold falls in between."""
    totals = _totals(base)
    for _ in range(READ_ATTEMPTS):
        sums, told = Counter(totals.counts), totals.unmarked()
        for document in _changed(base, planned=list(told)):
            sums[_standing(document)] += 1
            sums[_counted_as(document, totals.fold, told)] -= 1
        seen, totals = totals, _totals(base)
        if seen == totals:
            return {name: count for name, count in sums.items() if name and count}
    raise StoreUnavailable("the counts of ended jobs change all the time", "try again later")


def merge(base: Base, *, at_least: int = MERGE_THRESHOLD) -> None:
    """Bring what the ledger does not hold yet into it, if it is worth the trouble."""
    totals = _finish(base, _totals(base))
    while True:
        found = _changed(base, MERGED_AT_ONCE)
        if len(found) < max(1, at_least) or not _plan(base, totals, found):
            return
        totals = _finish(base, _totals(base))


def _plan(base: Base, totals: Totals, found: list[Document]) -> bool:
    """The commit point of a fold; False if another one was faster."""
    sums, planned = Counter(totals.counts), dict[str, list[int]]()
    for document in found:
        after = _standing(document)
        sums[after] += 1
        sums[document.get("counted", "")] -= 1
        planned.setdefault(after, []).append(document["_id"])
    counts = {name: count for name, count in sums.items() if name and count}
    change = {"fold": totals.fold + 1, "counts": codec.to_json(counts), "planned": codec.to_json(planned)}
    done = base["tally"].update_one(
        {"_id": "ended", "fold": totals.fold, "planned": {"$exists": False}}, {"$set": change}
    )
    return done.matched_count == 1


def _finish(base: Base, totals: Totals) -> Totals:
    """Tell the jobs of a plan, delete those that are only waiting for that, and strike the plan out."""
    if not totals.planned:
        return totals
    for name, numbers in totals.planned.items():
        _mark(base, totals.fold, name, numbers)
    base["tally"].update_one({"_id": "ended", "fold": totals.fold}, {"$unset": {"planned": ""}})
    return Totals(totals.fold, totals.counts, {})


def _mark(base: Base, fold: int, name: str, numbers: list[int]) -> None:
    stands = {"$ifNull": ["$standing", ""]}
    still_owed: Document = {"$cond": [{"$eq": [stands, name]}, "$$REMOVE", "$owed"]}
    base["jobs"].update_many(
        {"_id": {"$in": numbers}, "told": {"$not": {"$gte": fold}}},
        [{"$set": {"counted": name or "$$REMOVE", "told": fold, "owed": still_owed}}],
    )
    if not name:
        # Not those that went after they were told: a later plan may have counted them in between.
        gone = {"_id": {"$in": numbers}, "gone": True, "owed": {"$exists": False}}
        base["output"].delete_many({"job": {"$in": [d["_id"] for d in base["jobs"].find(gone, {"_id": 1})]}})
        base["jobs"].delete_many(gone)


def _changed(base: Base, limit: int = 0, planned: Sequence[int] = ()) -> list[Document]:
    """Jobs of which the ledger may hold something else than what they are; each once, as it was seen last.

    A job that lives again since it was `planned` is neither owed nor, before it is told, revived.
    """
    owed = base["jobs"].find(_UNCOUNTED, _FIELDS).limit(limit).hint("owed")
    revived = base["jobs"].find(_REVIVED, _FIELDS).limit(limit).hint("risen")
    told = base["jobs"].find({"_id": {"$in": list(planned)}}, _FIELDS) if planned else ()
    return list({document["_id"]: document for document in (*owed, *revived, *told)}.values())


def _counted_as(document: Document, fold: int, unmarked: dict[int, str]) -> str:
    """What the totals hold of a job, by its plan if the job has not been told yet."""
    if document.get("told", 0) < fold and document["_id"] in unmarked:
        return unmarked[document["_id"]]
    return str(document.get("counted", ""))


def _standing(document: Document) -> str:
    """What a job is to be counted as: nothing if it has not ended, or is deleted."""
    state, queue = document.get("state"), document.get("queue")
    if not isinstance(state, str) or state not in TERMINAL or not isinstance(queue, str):
        return ""
    return standing(state, queue)


def _totals(base: Base) -> Totals:
    found: Any = base["tally"].find_one({"_id": "ended"})
    if found is None:
        raise StoreUnusable("the counts of ended jobs are gone", "it was there before: restore the database")
    planned = decode(found["planned"], type=dict[str, list[int]]) if "planned" in found else {}
    return Totals(found["fold"], decode(found["counts"], type=dict[str, int]), planned)


def by_queue(sums: dict[str, int]) -> Iterator[tuple[Any, str, int]]:
    """State, queue and count of each standing."""
    for name, count in sums.items():
        yield (*state_and_queue(name), count)
