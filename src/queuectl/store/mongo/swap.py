"""Changes entries of the shared tables, and adds their jobs, without transactions.

The invariant: the jobs of a change are stored once if the entry was changed, and never otherwise. A process can die
between any two writes, so the change is three writes, and the first one is the commit point:

    1. The entry gets its new value and version, and the documents of its jobs as `plan`. Its time `due` is zero
       meanwhile, and the new time is `then`.
    2. One aggregation reads the plan and inserts its jobs whose ids are absent.
    3. The plan is removed from the entry, and `due` becomes `then`.

    died after  what follows
    nothing     nothing was changed
    1           the next `upcoming` finds the entry first, because of its time, and does 2 and 3; so does every other
                reader of the entry, before it can know the version
    2           the same; the jobs are known, so nothing is inserted

- An entry with a plan is never changed: only a process that has completed the plan knows its version.
- A process that was suspended between 1 and 2 inserts nothing if its plan was removed meanwhile, because the server
  reads the plan in the command that inserts. An insert by the process itself could store a job again that ran and was
  deleted meanwhile.
- A job is deleted only after all plans were completed (`complete_all`). Otherwise a plan that was left after 2 could
  insert the deleted job again.
- A plan is completed by the stamp of its change. The name and the version are not enough: an entry can be removed and
  made again.

Shown by tests/contract/test_mongo_swap.py.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from queuectl.clock import random_bytes
from queuectl.domain import topics
from queuectl.store.driver import codec
from queuectl.store.mongo import documents, notify, write
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import duplicates
from queuectl.store.protocol import Swap

Plan = tuple[str, int, str]
"""The name and the version of an entry with a plan, and the stamp of the change that made the plan."""
PLANS_AT_ONCE = 10
_FIRST = 0
"""The time `due` of an entry with a plan, which comes before all others."""
DUPLICATE_KEY = 11000
INSERT_TRIES = 200
"""How often an insert is repeated while others insert the same jobs. Each repetition finds at least one job more."""
INSERT_MS = 2000
"""The server's time limit for the insert of a plan's jobs. A repetition continues it."""


def swap(base: Base, swaps: Sequence[Swap], now: datetime) -> list[bool]:
    """Make each change whose entry has the given version."""
    removals = [each for each in swaps if each.value is None]
    removed = {_name(each) for each in removals if _remove(base, each)}
    written = _write(base, [each for each in swaps if each.value is not None], now)
    made = removed | written
    if made:
        added = [job for each in swaps if _name(each) in written for job in each.adding]
        notify.send(base, topics.WORK | topics.of_jobs(added, now))
    return [_name(each) in made for each in swaps]


def completed(base: Base, entries: Iterable[Document]) -> list[Document]:
    """These entries, after their plans were completed."""
    found = list(entries)
    _complete(base, _planned(found))
    return found


def complete_all(base: Base) -> None:
    """Complete every plan."""
    while planned := _planned(base["shared"].find({"due": _FIRST}).limit(PLANS_AT_ONCE)):
        _complete(base, planned)


def _planned(entries: Iterable[Document]) -> list[Plan]:
    return [(each["_id"], each["version"], each["stamps"][-1]) for each in entries if "plan" in each]


def _name(swap: Swap) -> str:
    return f"{swap.table}/{swap.key}"


def _remove(base: Base, swap: Swap) -> bool:
    return base["shared"].delete_one(_expected(swap)).deleted_count > 0


def _expected(swap: Swap) -> Document:
    return {"_id": _name(swap), "version": swap.version, "plan": {"$exists": False}}


def _write(base: Base, swaps: Sequence[Swap], now: datetime) -> set[str]:
    """Make these changes, and return the names of the changed entries."""
    if not swaps:
        return set()
    stamp = random_bytes(6).hex()
    plans = _plans(base, swaps, now)
    changes = [_change(each, plan, stamp) for each, plan in zip(swaps, plans, strict=True)]
    try:
        done = base["shared"].bulk_write(changes, ordered=False)
        accepted = done.matched_count + done.inserted_count
    except BulkWriteError as error:
        duplicates(error)  # raises unless all errors are entries that exist
        accepted = -1
    names = {_name(each) for each in swaps}
    made = names if accepted == len(swaps) else _stamped(base, names, stamp)
    planned = [each for each in swaps if each.adding and _name(each) in made]
    _complete(base, [(_name(each), each.version + 1, stamp) for each in planned])
    return made


def _plans(base: Base, swaps: Sequence[Swap], now: datetime) -> list[list[Document]]:
    """The documents of the jobs of each change."""
    count = sum(len(each.adding) for each in swaps)
    number = write.numbers(base, count) if count else 0
    plans = list[list[Document]]()
    for each in swaps:
        told = write.with_events(each.adding, each.telling)
        plans.append([documents.new(job, number + n, now, event) for n, (job, event) in enumerate(told)])
        number += len(each.adding)
    return plans


def _change(swap: Swap, plan: list[Document], stamp: str) -> Any:
    sent = codec.swap(swap)
    times = {"due": _FIRST, "then": sent["due"], "plan": plan} if plan else {"due": sent["due"]}
    values = {"value": sent["value"], **times}
    present = {name: value for name, value in values.items() if value is not None}
    if not swap.version:
        return InsertOne(
            {
                "_id": _name(swap),
                "table": swap.table,
                "key": swap.key,
                "version": 1,
                "stamps": [stamp],
                **present,
            }
        )
    change: Document = {
        "$set": present,
        "$inc": {"version": 1},
        "$push": {"stamps": {"$each": [stamp], "$slice": -documents.STAMPS_KEPT}},
    }
    if absent := {name: "" for name, value in values.items() if value is None}:
        change["$unset"] = absent
    return UpdateOne(_expected(swap), change)


def _stamped(base: Base, names: set[str], stamp: str) -> set[str]:
    """Those of these entries that the batch with this stamp has changed: the server reports only their number."""
    found = base["shared"].find({"_id": {"$in": sorted(names)}, "stamps": stamp}, {"_id": 1})
    return {str(entry["_id"]) for entry in found}


def _complete(base: Base, planned: Sequence[Plan]) -> None:
    """Insert the jobs of these plans, and remove the plans."""
    if not planned:
        return
    wanted = {
        "$or": [{"_id": name, "version": version, "stamps": stamp} for name, version, stamp in planned],
        "plan": {"$exists": True},
    }
    _insert(base, wanted)
    time = {"$ifNull": ["$then", "$$REMOVE"]}
    base["shared"].update_many(wanted, [{"$set": {"due": time}}, {"$unset": ["plan", "then"]}])


def _insert(base: Base, wanted: Document) -> None:
    """Insert the jobs of these plans whose ids are absent.

    Another process may insert the jobs of the same plan at the same time. The server then reports that the number of a
    job, its `_id`, exists: it looks again only for a duplicate of `id`. So the insert is repeated, and finds the job.
    """
    insert = {"into": "jobs", "on": "id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
    steps: list[Document] = [
        {"$match": wanted},
        {"$unwind": "$plan"},
        {"$replaceRoot": {"newRoot": "$plan"}},
        {"$merge": insert},
    ]
    for left in reversed(range(INSERT_TRIES)):
        try:
            base["shared"].aggregate(steps, maxTimeMS=INSERT_MS)
        except OperationFailure as error:
            if error.code != DUPLICATE_KEY or not left:
                raise
        else:
            return
