"""How many jobs of a queue have ended in a state, exactly, without looking at them and without transactions.

The ledger is one document. A job that has ended is `owed` until the ledger has counted it; what the ledger has counted
a job as stands in its `counted`. So at every moment the truth is the ledger, corrected by the few jobs that are owed,
and by those it has counted that have come back to life or are deleted.

Folding brings such jobs into the ledger: one write of the ledger changes the sums and names, as `planned`, the jobs
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

FOLDED_AT_ONCE = 2000
WORTHWHILE = 500
"""So many jobs may be owed before a worker folds; whoever counts looks at them all."""
LOOKS = 20

_RISEN: Document = {"live": True, "counted": {"$exists": True}}
_OWED: Document = {"owed": True}
_FIELDS = {"state": 1, "queue": 1, "counted": 1, "told": 1}


class Ledger(Struct, frozen=True):
    """The document: the number of its last fold, the sums, and the jobs that fold has not all told yet."""

    fold: int
    counts: dict[str, int]
    planned: dict[str, list[int]]
    """Numbers of jobs by what they are counted as now; "" for nothing."""

    def yet_to_tell(self) -> dict[int, str]:
        """The plan by number."""
        return {number: name for name, numbers in self.planned.items() for number in numbers}


def ended(base: Base) -> dict[str, int]:
    """How many jobs have ended, by standing. The ledger is read before and after: no fold falls in between."""
    ledger = _read(base)
    for _ in range(LOOKS):
        sums, told = Counter(ledger.counts), ledger.yet_to_tell()
        for document in _uncounted(base, planned=list(told)):
            sums[_stands(document)] += 1
            sums[_counted_as(document, ledger.fold, told)] -= 1
        seen, ledger = ledger, _read(base)
        if seen == ledger:
            return {name: count for name, count in sums.items() if name and count}
    raise StoreUnavailable("the ledger of ended jobs changes all the time", "try again later")


def fold(base: Base, *, at_least: int = WORTHWHILE) -> None:
    """Bring what the ledger does not hold yet into it, if it is worth the trouble."""
    ledger = _finish(base, _read(base))
    while True:
        found = _uncounted(base, FOLDED_AT_ONCE)
        if len(found) < max(1, at_least) or not _plan(base, ledger, found):
            return
        ledger = _finish(base, _read(base))


def _plan(base: Base, ledger: Ledger, found: list[Document]) -> bool:
    """The commit point of a fold; False if another one was faster."""
    sums, planned = Counter(ledger.counts), dict[str, list[int]]()
    for document in found:
        after = _stands(document)
        sums[after] += 1
        sums[document.get("counted", "")] -= 1
        planned.setdefault(after, []).append(document["_id"])
    counts = {name: count for name, count in sums.items() if name and count}
    change = {"fold": ledger.fold + 1, "counts": codec.to_json(counts), "planned": codec.to_json(planned)}
    done = base["tally"].update_one(
        {"_id": "ended", "fold": ledger.fold, "planned": {"$exists": False}}, {"$set": change}
    )
    return done.matched_count == 1


def _finish(base: Base, ledger: Ledger) -> Ledger:
    """Tell the jobs of a plan, delete those that are only waiting for that, and strike the plan out."""
    if not ledger.planned:
        return ledger
    for name, numbers in ledger.planned.items():
        _tell(base, ledger.fold, name, numbers)
    base["tally"].update_one({"_id": "ended", "fold": ledger.fold}, {"$unset": {"planned": ""}})
    return Ledger(ledger.fold, ledger.counts, {})


def _tell(base: Base, fold: int, name: str, numbers: list[int]) -> None:
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


def _uncounted(base: Base, limit: int = 0, planned: Sequence[int] = ()) -> list[Document]:
    """Jobs of which the ledger may hold something else than what they are; each once, as it was seen last.

    A job that lives again since it was `planned` is neither owed nor, before it is told, risen.
    """
    owed = base["jobs"].find(_OWED, _FIELDS).limit(limit).hint("owed")
    risen = base["jobs"].find(_RISEN, _FIELDS).limit(limit).hint("risen")
    told = base["jobs"].find({"_id": {"$in": list(planned)}}, _FIELDS) if planned else ()
    return list({document["_id"]: document for document in (*owed, *risen, *told)}.values())


def _counted_as(document: Document, fold: int, yet_to_tell: dict[int, str]) -> str:
    """What the sums of a ledger hold of a job, by its plan if the job has not been told yet."""
    if document.get("told", 0) < fold and document["_id"] in yet_to_tell:
        return yet_to_tell[document["_id"]]
    return str(document.get("counted", ""))


def _stands(document: Document) -> str:
    """What a job is to be counted as: nothing if it has not ended, or is deleted."""
    state, queue = document.get("state"), document.get("queue")
    if not isinstance(state, str) or state not in TERMINAL or not isinstance(queue, str):
        return ""
    return standing(state, queue)


def _read(base: Base) -> Ledger:
    found: Any = base["tally"].find_one({"_id": "ended"})
    if found is None:
        raise StoreUnusable("the ledger of ended jobs is gone", "it was there before: restore the database")
    planned = decode(found["planned"], type=dict[str, list[int]]) if "planned" in found else {}
    return Ledger(found["fold"], decode(found["counts"], type=dict[str, int]), planned)


def by_queue(sums: dict[str, int]) -> Iterator[tuple[Any, str, int]]:
    """State, queue and count of each standing."""
    for name, count in sums.items():
        yield (*state_and_queue(name), count)
