"""Workers and what is asked of them; the small shared tables."""

from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.mongo import notify
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.faults import duplicates
from queuectl.store.protocol import Entry, Table


def heartbeat(base: Base, worker: Worker) -> Instruction | None:
    """Enter a worker or renew its entry (`heartbeat` is set); answers what is asked of it.

    What is asked between the look and the write stays asked.
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
    return stored["asked"] if stored else None


def pending_instruction(base: Base, worker_id: str) -> Instruction | None:
    """What is asked of a worker."""
    known = base["workers"].find_one({"_id": worker_id}, {"asked": 1})
    return known.get("asked") if known else None


def instruct(base: Base, worker_id: str, instruction: Instruction) -> bool:
    """Ask something of a worker, if there is such a one."""
    known = base["workers"].update_one({"_id": worker_id}, {"$set": {"asked": instruction}}).matched_count > 0
    notify.send(base, notify.WORK)
    return known


def workers(base: Base) -> list[Worker]:
    """All, in order of their start."""
    found = base["workers"].find().sort([("started_at", 1), ("_id", 1)])
    return [codec.worker(str(document["_id"]), document.get("worker")) for document in found]


def forget(base: Base, worker_id: str) -> None:
    """Remove a worker."""
    base["workers"].delete_one({"_id": worker_id})
    notify.send(base, notify.END)


def read_table(base: Base, table: Table) -> dict[str, Entry]:
    """All entries of a table."""
    found = base["shared"].find({"table": table})
    return {
        entry["key"]: codec.entry(entry.get("value"), entry.get("version"))
        for entry in found
        if isinstance(entry.get("key"), str)
    }


def compare_and_swap(base: Base, table: Table, key: str, value: dict[str, Any] | None, version: int) -> bool:
    """Compare-and-swap of one entry; version 0 is an absent one, None removes."""
    name = f"{table}/{key}"
    if value is None and version == 0:
        return base["shared"].find_one({"_id": name}) is None
    if value is None:
        done = base["shared"].delete_one({"_id": name, "version": version}).deleted_count > 0
    elif version == 0:
        done = _enter(base, name, table, key, value)
    else:
        change = {"$set": {"value": codec.to_json(value)}, "$inc": {"version": 1}}
        done = base["shared"].update_one({"_id": name, "version": version}, change).matched_count > 0
    if done:
        notify.send(base, notify.WORK)
    return done


def _enter(base: Base, name: str, table: Table, key: str, value: dict[str, Any]) -> bool:
    entry = {"_id": name, "table": table, "key": key, "value": codec.to_json(value), "version": 1}
    try:
        base["shared"].insert_many([entry])
    except BulkWriteError as error:
        return not duplicates(error)  # `insert_one` would not say that the rival may still be rolled back
    return True
