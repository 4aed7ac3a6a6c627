"""The registry of workers, their instructions, and the small shared tables."""

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from queuectl.domain import topics
from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.mongo import ended_counts, notify
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import duplicates
from queuectl.store.protocol import Entry, Table


def heartbeat(base: Base, worker: Worker) -> Instruction | None:
    """Enter a worker or renew its entry; `heartbeat` is set. Returns its pending instruction.

    An instruction that arrives between the read and the write is kept.
    """
    known = base["workers"].find_one({"_id": worker.id})
    seen = known.get("asked") if known else None
    left = still_instructed(seen, codec.worker(worker.id, known.get("worker")), worker) if known else None
    entry = {
        "started_at": codec.micros(worker.started_at),
        "worker": {"$literal": codec.to_json(worker)},
        "asked": {
            "$cond": [{"$eq": [{"$ifNull": ["$asked", None]}, seen]}, left, {"$ifNull": ["$asked", None]}]
        },
    }
    stored = for_changing_one(base["workers"]).find_one_and_update(
        {"_id": worker.id}, [{"$set": entry}], upsert=True, return_document=ReturnDocument.AFTER
    )
    ended_counts.merge(base)
    return stored["asked"] if stored else None


def pending_instruction(base: Base, worker_id: str) -> Instruction | None:
    """The pending instruction of a worker."""
    known = base["workers"].find_one({"_id": worker_id}, {"asked": 1})
    return known.get("asked") if known else None


def instruct(base: Base, worker_id: str, instruction: Instruction) -> bool:
    """Store an instruction for a worker. False if there is no such worker."""
    known = base["workers"].update_one({"_id": worker_id}, {"$set": {"asked": instruction}}).matched_count > 0
    notify.send(base, topics.WORK)
    return known


def workers(base: Base) -> list[Worker]:
    """All workers, in order of their start."""
    found = base["workers"].find().sort([("started_at", 1), ("_id", 1)])
    return [codec.worker(str(document["_id"]), document.get("worker")) for document in found]


def forget(base: Base, worker_id: str) -> None:
    """Remove a worker."""
    base["workers"].delete_one({"_id": worker_id})
    notify.send(base, topics.ENDS)


def read_table(base: Base, table: Table) -> dict[str, Entry]:
    """All entries of a table."""
    found = base["shared"].find({"table": table})
    return {
        entry["key"]: codec.entry(entry.get("value"), entry.get("version"))
        for entry in found
        if isinstance(entry.get("key"), str)
    }


def insert_entry(base: Base, table: Table, key: str, value: str) -> bool:
    """Write an entry with version 1 if there is none. Returns whether it did."""
    entry = {"_id": f"{table}/{key}", "table": table, "key": key, "value": value, "version": 1}
    try:
        base["shared"].insert_many([entry])
    except BulkWriteError as error:
        duplicates(error)  # `insert_one` would not report that the existing entry may still be rolled back
        return False
    return _changed(base, 1)


def update_entry(base: Base, table: Table, key: str, value: str, version: int) -> bool:
    """Replace an entry and raise its version, if its version is this one. Returns whether it did."""
    change = {"$set": {"value": value}, "$inc": {"version": 1}}
    return _changed(base, base["shared"].update_one(_entry(table, key, version), change).matched_count)


def delete_entry(base: Base, table: Table, key: str, version: int) -> bool:
    """Remove an entry if its version is this one. Returns whether it did."""
    return _changed(base, base["shared"].delete_one(_entry(table, key, version)).deleted_count)


def _entry(table: Table, key: str, version: int) -> Document:
    return {"_id": f"{table}/{key}", "version": version}


def _changed(base: Base, count: int) -> bool:
    if count:
        notify.send(base, topics.WORK)
    return count > 0
