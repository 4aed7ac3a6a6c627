"""Deletes ended jobs, a bounded number at a time, and jobs that cannot be decoded.

One write first removes all fields of a deleted job except those that the counts of ended jobs need. From then on the
document is not a job and its id is free. The next merge of the counts removes the document (`ended_counts.py`), after
its events were published (`publish.py`).
"""

from collections.abc import Sequence

from queuectl.clock import random_bytes
from queuectl.domain.event import Actor
from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.query import Filter, Unreadable
from queuectl.store.driver import codec, paging
from queuectl.store.mongo import documents, ended_counts, find, swap
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.ready_index import ServerTime

_LEFT = {
    # The index of ids needs a unique value, so this is an id that no job can have.
    "id": {"$concat": [" ", {"$toString": "$_id"}]},
    "counted": "$counted",
    "told": "$told",
    "owed": True,
    "gone": True,
    "events": "$events",
    "unpublished": "$unpublished",
}


def purge(base: Base, wanted: Filter, limit: int, now: ServerTime, tell: Actor | None = None) -> list[str]:
    """Delete ended jobs that match, longest ended first. Jobs that have not ended are never deleted."""
    condition = oldest(wanted)
    if limit < 1 or not condition["state"]["$in"]:
        return []
    ids = {job.number: job.id for job in oldest_jobs(base, wanted, limit)}
    swap.complete_all(base)  # after the jobs were chosen: no plan may insert a deleted job again
    gone = _delete(base, list(ids), condition, [] if tell is None else [{"$set": _deleted(tell, now)}])
    return [id for number, id in ids.items() if number in gone]


def discard(base: Base, numbers: Sequence[int], _now: object) -> list[int]:
    """Delete the jobs with these numbers that cannot be decoded, in any state."""
    there: Document = {"state": {"$exists": True}}
    _, damaged = codec.sift(base["jobs"].find({"_id": {"$in": list(numbers)}, **there}), documents.job)
    swap.complete_all(base)
    return sorted(_delete(base, [each.number for each in damaged], there))


def _deleted(actor: Actor, now: ServerTime) -> Document:
    """The event of a deleted job."""
    who = {"by": actor.by, "via": actor.via}
    known = {name: {"$literal": value} for name, value in who.items() if value is not None}
    return documents.made({"event": "job.deleted", "state": "$state", **known}, now)


def _delete(
    base: Base, numbers: Sequence[int], condition: Document, telling: Sequence[Document] = ()
) -> set[int]:
    """Delete those of these jobs that still satisfy the condition. Returns their numbers."""
    if not numbers:
        return set()
    stamp = random_bytes(8).hex()
    emptied = [*telling, {"$replaceWith": {"_id": "$_id", **_LEFT, "by": stamp}}]
    base["jobs"].update_many({"_id": {"$in": list(numbers)}, **condition}, emptied)
    found = base["jobs"].find({"_id": {"$in": list(numbers)}, "by": stamp}, {"_id": 1})
    gone = {document["_id"] for document in found}
    base["output"].delete_many({"job": {"$in": list(gone)}})
    ended_counts.merge(base)
    return gone


def oldest_jobs(base: Base, wanted: Filter, limit: int) -> list[Job]:
    """The matching jobs that ended longest ago."""
    condition = oldest(wanted)

    def look(count: int) -> tuple[list[Job], list[Unreadable]]:
        found = base["jobs"].find(condition).sort([("finished_at", 1), ("_id", 1)]).limit(count)
        return codec.sift(found.batch_size(count + 1), documents.job)

    return paging.first(look, limit)[0]


def oldest(wanted: Filter) -> Document:
    """The condition for ended jobs that match a filter."""
    meant = sorted(wanted.states & TERMINAL if wanted.states else TERMINAL)
    return {"finished_at": {"$exists": True}, **find.conditions(wanted), "state": {"$in": meant}}
