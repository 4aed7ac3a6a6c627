"""Deleting jobs that have ended, a bounded number at a time.

What is deleted is emptied first, in one write, but for what the ledger has counted it as: from then on it is no job any
more, its id is free, and only the ledger's next fold still knows it.
"""

from queuectl.clock import random_bytes
from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.query import Filter
from queuectl.store.mongo import documents, finding, ledger
from queuectl.store.mongo.connections import Base
from queuectl.store.mongo.documents import Document

_LEFT = {
    # An id that no job can have, so that the index of ids takes it.
    "id": {"$concat": [" ", {"$toString": "$_id"}]},
    "counted": "$counted",
    "told": "$told",
    "owed": True,
    "gone": True,
}


def purge(base: Base, wanted: Filter, limit: int) -> list[str]:
    """Longest ended first; whatever the filter says, only what has ended."""
    condition = oldest(wanted)
    if limit < 1 or not condition["state"]["$in"]:
        return []
    found = base["jobs"].find(condition, {"id": 1}).sort([("finished_at", 1), ("_id", 1)]).limit(limit)
    ids = {document["_id"]: document["id"] for document in found.batch_size(limit + 1)}
    stamp = random_bytes(8).hex()
    emptied = [{"$replaceWith": {"_id": "$_id", **_LEFT, "by": stamp}}]
    base["jobs"].update_many({"_id": {"$in": list(ids)}, **condition}, emptied)
    gone = {document["_id"] for document in base["jobs"].find({"_id": {"$in": list(ids)}, "by": stamp})}
    base["output"].delete_many({"job": {"$in": list(gone)}})
    ledger.fold(base)
    return [id for number, id in ids.items() if number in gone]


def oldest_jobs(base: Base, wanted: Filter, limit: int) -> list[Job]:
    """The jobs that match and ended longest ago."""
    found = base["jobs"].find(oldest(wanted)).sort([("finished_at", 1), ("_id", 1)]).limit(limit)
    return [documents.job(document) for document in found.batch_size(limit + 1)]


def oldest(wanted: Filter) -> Document:
    """The jobs that a filter means, of those that have ended."""
    meant = sorted(wanted.states & TERMINAL if wanted.states else TERMINAL)
    return {"finished_at": {"$exists": True}, **finding.conditions(wanted), "state": {"$in": meant}}
