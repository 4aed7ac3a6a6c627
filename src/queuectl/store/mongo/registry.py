"""Reads and writes the registry of workers, their instructions, and the small shared tables."""

from collections.abc import Sequence

from pymongo import ReturnDocument

from queuectl.domain import topics
from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.mongo import ended_counts, notify, publish, swap
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.documents import Document
from queuectl.store.protocol import Entry, Table, Upcoming


def heartbeat(base: Base, worker: Worker) -> Instruction | None:
    """Enter a worker or renew its entry, with the time of the heartbeat. Returns its pending instruction.

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
    publish.relieve(base)
    return stored["asked"] if stored else None


def pending_instruction(base: Base, worker_id: str) -> Instruction | None:
    """The pending instruction of a worker."""
    known = base["workers"].find_one({"_id": worker_id}, {"asked": 1})
    return known.get("asked") if known else None


def instruct(base: Base, worker_id: str, instruction: Instruction) -> bool:
    """Store an instruction for a worker. Returns False if there is no such worker."""
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


def read_table(base: Base, table: Table, keys: Sequence[str] | None) -> dict[str, Entry]:
    """All entries of a table, or those with these keys."""
    # A range of `_id`, which is `table/key`: a search by `table` would read all tables. "0" is the character after "/".
    every = {"$gte": f"{table}/", "$lt": f"{table}0"}
    names = every if keys is None else {"$in": [f"{table}/{key}" for key in keys]}
    found = swap.completed(base, base["shared"].find({"_id": names, "table": table}))
    return {
        entry["key"]: codec.entry(entry.get("value"), entry.get("version"))
        for entry in found
        if isinstance(entry.get("key"), str)
    }


def upcoming(base: Base, limit: int) -> list[Upcoming]:
    """The entries that need work, soonest first."""
    while True:
        found = list(base["shared"].find({"due": {"$exists": True}}).sort("due").limit(limit))
        if not any("plan" in entry for entry in found):
            return list(map(_upcoming, found))
        swap.completed(base, found)  # their times are known only now


def _upcoming(entry: Document) -> Upcoming:
    return codec.upcoming(
        entry["table"], entry["key"], entry.get("value"), entry.get("version"), entry["due"]
    )
