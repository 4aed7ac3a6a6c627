"""Reads the settings, versions, sizes and faults of a server."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from pymongo.errors import OperationFailure

from queuectl.domain.query import Filter
from queuectl.errors import StoreUnusable
from queuectl.store.mongo import ended_counts, find, schema
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document
from queuectl.store.protocol import Description, Durability

OLDEST_WIRE = 13
"""The wire version of MongoDB 5.0."""
LOOKS = 3
UNSEEN = "unseen: this user may not look"


class Server(Struct, frozen=True):
    """The properties of a server that decide whether it is suitable for a queue.

    `keepers` is the number of members of a replica set that hold data, vote, and can be elected.
    """

    wire: int
    writable: bool
    replica_set: str | None
    sharded: bool
    keepers: int
    version: str

    def durability(self, *, fast: bool) -> Durability:
        """The kind of failure that an acknowledged write survives."""
        if fast:
            return "memory-safe"
        return "failover-safe" if self.keepers > 1 else "power-safe"


def server(base: Base) -> Server:
    """Read the properties of the server of this connection."""
    hello = base.command("hello")
    return Server(
        wire=hello["maxWireVersion"],
        writable=hello["isWritablePrimary"],
        replica_set=hello.get("setName"),
        sharded=hello.get("msg") == "isdbgrid",
        keepers=len(
            hello.get("hosts", ())
        ),  # members without a vote are not counted, because they cannot be elected
        version=str(base.command("buildInfo")["version"]),
    )


def refuse_unfit(found: Server, shown: str) -> None:
    """Refuse a server on which a queue would not be safe (guarantee G1)."""
    if found.wire < OLDEST_WIRE:
        raise StoreUnusable(f"{shown} is MongoDB {found.version}", "version 5.0 or later is needed")
    if not found.writable:
        raise StoreUnusable(
            f"{shown} is not the primary of its replica set",
            "name the members of the set, or replicaSet=NAME, and leave out directConnection",
        )


def describe(base: Base, shown: str, *, fast: bool, listens: bool) -> Description:
    """The description without a scan: settings, versions and sizes."""
    found = server(base)
    sizes = base.command("dbStats")
    engine = _engine(base)
    details: dict[str, Any] = {
        "mongodb": found.version,
        "database": base.name,
        "topology": _topology(found),
        "write_concern": "w: 1, j: false" if fast else "w: majority, j: true",
        "journal": "not waited for" if fast else "waited for with every write",
        "storage_engine": engine,
        "wake_up": _wake_up(base, found) if listens else "polling",
        "bytes": int(sizes["storageSize"]) + int(sizes["indexSize"]),
        "jobs": base["jobs"].estimated_document_count(),
        "workers": base["workers"].count_documents({}),
    }
    if found.replica_set:
        details["members"] = _members(base)
    faults = []
    if fast:
        faults.append("an acknowledged job may be lost at a power failure or an election: --durability fast")
    if engine not in ("wiredTiger", UNSEEN):
        faults.append(f"storage engine {engine} may lose acknowledged jobs")
    return Description(
        url=shown,
        durability=found.durability(fast=fast),
        schema=schema.version(base),
        details={name: str(value) for name, value in details.items()},
        faults=tuple(faults),
    )


def with_damage(base: Base, found: Description) -> Description:
    """The description with the damage that a scan of all jobs finds, and with the exact number of jobs."""
    wrong = [f"{count} {what}" for what, count in _damage(base) if count]
    details = {**found.details, "jobs": str(find.counts(base, Filter()).total())}
    return replace(found, details=details, faults=(*found.faults, *wrong))


def _damage(base: Base) -> list[tuple[str, int]]:
    jobs = base["jobs"]
    lonely: list[Document] = [
        {"$group": {"_id": "$job", "n": {"$sum": 1}}},
        {"$lookup": {"from": "jobs", "localField": "_id", "foreignField": "_id", "as": "found"}},
        {"$match": {"found": []}},
        {"$group": {"_id": None, "n": {"$sum": "$n"}}},
    ]
    return [
        ("jobs whose place in line does not fit their state", jobs.count_documents({"$expr": _misplaced()})),
        ("counts that are wrong", _wrong_counts(base)),
        ("chunks of output without a job", sum(row["n"] for row in base["output"].aggregate(lonely))),
    ]


def _misplaced() -> Document:
    def there(field: str) -> Document:
        return {"$ne": [{"$type": f"${field}"}, "missing"]}

    waits = {"$in": ["$state", ["pending", "failed"]]}
    ended = {"$in": ["$state", ["completed", "dead", "cancelled"]]}
    wrong = [
        {"$ne": ["$standing", {"$concat": ["$state", " ", "$queue"]}]},
        {"$ne": [waits, {"$or": [there("ready"), there("delayed")]}]},
        {"$and": [there("ready"), there("delayed")]},
        {"$and": [there("ready"), {"$ne": ["$ready", "$queue"]}]},
        {"$ne": [{"$eq": ["$state", "processing"]}, there("lease_until")]},
        {"$eq": [ended, there("live")]},
        {"$and": [ended, there("key")]},
    ]
    return {"$and": [{"$not": there("gone")}, {"$or": wrong}]}


def _wrong_counts(base: Base) -> int:
    """The number of counts that are wrong in each of several comparisons. A job may end within one comparison."""
    wrong = _differing(base)
    for _ in range(LOOKS):
        wrong &= _differing(base) if wrong else wrong
    return len(wrong)


def _differing(base: Base) -> set[str]:
    stored = ended_counts.read(base)
    ended = {"$match": {"finished_at": {"$exists": True}, "live": {"$exists": False}}}
    found = base["jobs"].aggregate([ended, {"$group": {"_id": "$standing", "n": {"$sum": 1}}}])
    seen = {row["_id"]: row["n"] for row in found}
    return {name for name in stored.keys() | seen.keys() if stored.get(name) != seen.get(name)}


def _topology(found: Server) -> str:
    if found.replica_set:
        return f"replica set {found.replica_set}"
    return "sharded cluster" if found.sharded else "standalone"


def _wake_up(base: Base, found: Server) -> str:
    if found.replica_set:
        return "change stream"
    return "capped collection" if base["rings"].options().get("capped") else "polling"


def _engine(base: Base) -> str:
    try:
        return str(base.client["admin"].command("serverStatus")["storageEngine"]["name"])
    except OperationFailure:
        return UNSEEN


def _members(base: Base) -> str:
    try:
        status = base.client["admin"].command("replSetGetStatus")
    except OperationFailure:
        return UNSEEN
    return ", ".join(f"{member['name']} {member['stateStr'].lower()}" for member in status["members"])
