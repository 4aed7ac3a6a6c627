"""Counts of ended jobs, by state and queue: exact, without scanning the jobs and without transactions.

A queue may keep millions of ended jobs, so `status` must not count them one by one. A counter that every ended job
increments would be wrong after a crash between the two writes, because a standalone MongoDB has no transaction over two
documents. So ending, retrying or deleting a job writes the job's document alone, and a *merge* brings such changes into
one document of totals later (`{_id: "ended"}` in the collection `tally`).

The invariant
    A job's *standing* is its state and queue in one word ("dead default"); the standing of a job that has not ended, or
    is deleted, is the empty word. The totals include each job at most once, under the standing that they know. Then, at
    any time:

        number of ended jobs with standing S  =  totals[S]
                                                 + the changed jobs whose standing is S now
                                                 - the changed jobs that the totals include under S

    The *changed* jobs are those whose standing may differ from what the totals include. They are found without a scan:
    each is in one of two partial indexes, or in the plan of an unfinished merge. Without that property, `read` would
    miss a change, and every later count would be wrong permanently, because all jobs are never counted again.

What the totals include of a job (fields of the job's document)
    `live`     true until the job has ended
    `owed`     true once the job has ended or is deleted, until a merge has marked it; indexed as `owed`
    `counted`  the standing under which the totals include the job; absent if they do not
    `told`     the number of the last merge that marked the job
    `gone`     true if the job is deleted: only this and the fields above are left of it, and `events` until they are
               published; if the merge comes before that, the publisher does step 3 for it

    job                                  live  owed  counted  standing now  found by           correction
    has never ended                      yes   -     -        -             -                  none
    has ended, not merged yet            -     yes   -        S             index `owed`       +1 S
    has ended and is merged              -     -     S        S             -                  none
    was retried after that               yes   -     S        -             index `risen`      -1 S
    has ended again, with standing T     -     yes   S        T             index `owed`       -1 S +1 T
    was deleted after it was merged      -     yes   S        -             index `owed`       -1 S
    was deleted before it was merged     -     yes   -        -             index `owed`       none
    deleted and marked                   -     -     -        -             -                  the merge removes it
    is planned as P and not marked yet   any   any   any      any           its number         -1 P, +1 standing now

    The last row needs the lookup by number: a job that had ended (`owed`), was planned as S and was retried before the
    mark has neither `owed` nor `counted`, so no index contains it, although the totals include it.

A merge is four writes, and any process can die between two of them
    1. Plan: one update of the totals sets the new sums, raises `fold` (the number of the merge) and stores, as
       `planned`, the numbers of the changed jobs by the standing that the sums include now. This is the commit point.
       It applies only to the totals that were read (same `fold`, no plan), so of two concurrent merges one plans.
    2. Mark: the planned jobs get `counted` and `told`. `owed` is removed only where the standing is still the planned
       one: a job that changed again since the plan stays changed.
    3. Remove: deleted jobs that are marked, and their output, are removed.
    4. The plan is removed from the totals.

    died after  state                                       what follows
    nothing     as before                                   the next merge starts again
    1           the totals are ahead of the jobs' marks     `read` takes the standing of unmarked jobs from the plan;
                                                            the next merge does 2, 3 and 4
    2           marks agree with the totals; deleted jobs   they need no correction; the next merge does 3 and 4
                remain
    3           the plan names marked or removed jobs only  the next merge does 4

    Steps 2 to 4 are idempotent, and several processes may do them at once. A process that was suspended in the middle
    of an old merge must not undo a newer one. So a mark applies only to jobs with a smaller `told`; the removal spares
    jobs that are `owed` (they were deleted after the mark, and a later merge may include them); and step 4 applies only
    to its own `fold`.

What a read does not promise
    It is no snapshot of the jobs: a job that ends or is retried during the read counts as it was when it was read. The
    totals are exact again as soon as no job changes, because a job that a merge has not read stays changed.

Shown by tests/contract/test_mongo_ended_counts.py
    A merge is stopped after each of its requests and given up (`test_a_process_that_dies_between_two_steps...`) or
    continued after other changes (`test_the_counts_are_exact_for_any_change...`); late processes of an old merge
    (`test_a_late_process_...`, three tests); concurrent merges; and a property test over random orders of all of that.
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

MERGE_AT_MOST = 2000
"""Maximum number of changed jobs of each index in one merge. It limits the plan, which is stored in one document."""
MERGE_THRESHOLD = 500
"""Minimum number of changed jobs for a merge. More make `read` slower, because it reads all of them."""
READ_ATTEMPTS = 20

_OWED: Document = {"owed": True}
_REVIVED: Document = {"live": True, "counted": {"$exists": True}}
_FIELDS = {"state": 1, "queue": 1, "counted": 1, "told": 1}


class Totals(Struct, frozen=True):
    """The document with the totals.

    fold     the number of the last merge
    counts   how many jobs the totals include, by standing
    planned  the plan of that merge if it is not finished: numbers of jobs by standing, "" for jobs that have none
    """

    fold: int
    counts: dict[str, int]
    planned: dict[str, list[int]]

    def planned_standings(self) -> dict[int, str]:
        """The standing of each job in the plan, by the job's number."""
        return {number: name for name, numbers in self.planned.items() for number in numbers}


def read(base: Base) -> dict[str, int]:
    """The number of ended jobs, by standing.

    The totals are read before and after the changed jobs. If they differ, a merge planned or finished in between, and
    the changed jobs belong to neither version: then the read is repeated. Marks in between do no harm: a planned job
    counts the same before and after its mark.
    """
    totals = _read_totals(base)
    for _ in range(READ_ATTEMPTS):
        sums, planned = Counter(totals.counts), totals.planned_standings()
        for document in _changed_jobs(base, planned=list(planned)):
            sums[_standing_now(document)] += 1
            sums[_included_as(document, totals.fold, planned)] -= 1
        seen, totals = totals, _read_totals(base)
        if seen == totals:
            return {name: count for name, count in sums.items() if name and count}
    raise StoreUnavailable("the counts of ended jobs change all the time", "try again later")


def merge(base: Base, *, at_least: int = MERGE_THRESHOLD) -> None:
    """Finish an interrupted merge of another process. Then merge while there are at least so many changed jobs."""
    totals = _finish(base, _read_totals(base))
    while True:
        changed = _changed_jobs(base, MERGE_AT_MOST)
        if len(changed) < max(1, at_least) or not _plan(base, totals, changed):
            return
        totals = _finish(base, _read_totals(base))


def _plan(base: Base, totals: Totals, changed: list[Document]) -> bool:
    """Step 1, the commit point. Returns False if a concurrent merge has planned first."""
    sums, planned = Counter(totals.counts), dict[str, list[int]]()
    for document in changed:
        now = _standing_now(document)
        sums[now] += 1
        sums[document.get("counted", "")] -= 1
        planned.setdefault(now, []).append(document["_id"])
    counts = {name: count for name, count in sums.items() if name and count}
    change = {"fold": totals.fold + 1, "counts": codec.to_json(counts), "planned": codec.to_json(planned)}
    done = base["tally"].update_one(
        {"_id": "ended", "fold": totals.fold, "planned": {"$exists": False}}, {"$set": change}
    )
    return done.matched_count == 1


def _finish(base: Base, totals: Totals) -> Totals:
    """Do steps 2 to 4 of the merge in the totals, if there is a plan. Returns the totals without the plan."""
    if not totals.planned:
        return totals
    for name, numbers in totals.planned.items():
        _mark(base, totals.fold, name, numbers)
        if not name:
            remove(base, numbers)
    base["tally"].update_one({"_id": "ended", "fold": totals.fold}, {"$unset": {"planned": ""}})
    return Totals(totals.fold, totals.counts, {})


def _mark(base: Base, fold: int, name: str, numbers: list[int]) -> None:
    """Step 2: mark these jobs with the standing under which the totals include them. Marks of newer merges stay."""
    now = {"$ifNull": ["$standing", ""]}
    still_owed: Document = {"$cond": [{"$eq": [now, name]}, "$$REMOVE", "$owed"]}
    base["jobs"].update_many(
        {"_id": {"$in": numbers}, "told": {"$not": {"$gte": fold}}},
        [{"$set": {"counted": name or "$$REMOVE", "told": fold, "owed": still_owed}}],
    )


def remove(base: Base, numbers: list[int]) -> None:
    """Step 3: remove the deleted ones of these jobs, except jobs that were deleted after their mark (`owed`).

    A job with events that are not published stays too: its publisher removes it.
    """
    absent = {"$exists": False}
    deleted: Document = {"_id": {"$in": numbers}, "gone": True, "owed": absent, "unpublished": absent}
    found = [document["_id"] for document in base["jobs"].find(deleted, {"_id": 1})]
    base["output"].delete_many({"job": {"$in": found}})
    base["jobs"].delete_many(deleted)


def _changed_jobs(base: Base, limit: int = 0, planned: Sequence[int] = ()) -> list[Document]:
    """The changed jobs, each once, as last read. `planned`: the numbers in the plan of an unfinished merge."""
    owed = base["jobs"].find(_OWED, _FIELDS).limit(limit).hint("owed")
    revived = base["jobs"].find(_REVIVED, _FIELDS).limit(limit).hint("risen")
    by_number = base["jobs"].find({"_id": {"$in": list(planned)}}, _FIELDS) if planned else ()
    return list({document["_id"]: document for document in (*owed, *revived, *by_number)}.values())


def _included_as(document: Document, fold: int, planned: dict[int, str]) -> str:
    """The standing under which the totals include a job: from the plan if the job is not marked yet, or its mark."""
    if document.get("told", 0) < fold and document["_id"] in planned:
        return planned[document["_id"]]
    return str(document.get("counted", ""))


def _standing_now(document: Document) -> str:
    """The standing of a job. Empty if the job has not ended or is deleted."""
    state, queue = document.get("state"), document.get("queue")
    if not isinstance(state, str) or state not in TERMINAL or not isinstance(queue, str):
        return ""
    return standing(state, queue)


def _read_totals(base: Base) -> Totals:
    found: Any = base["tally"].find_one({"_id": "ended"})
    if found is None:
        raise StoreUnusable("the counts of ended jobs are gone", "restore the database from a backup")
    planned = decode(found["planned"], type=dict[str, list[int]]) if "planned" in found else {}
    return Totals(found["fold"], decode(found["counts"], type=dict[str, int]), planned)


def by_queue(counts: dict[str, int]) -> Iterator[tuple[Any, str, int]]:
    """The counts with state and queue, from the counts by standing."""
    for name, count in counts.items():
        yield (*state_and_queue(name), count)
