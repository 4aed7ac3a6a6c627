"""Creates and checks the collections and indexes of a schema.

No lock is needed: every step is idempotent, so several processes may run it at once and again after a crash, and the
number of the schema is written last. Later schemas only add, because older workers keep running meanwhile.
"""

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from queuectl.errors import StoreAbsent, StoreUnusable
from queuectl.store.driver.notifier import STORED_NAMES
from queuectl.store.mongo import notify
from queuectl.store.mongo.connect import Base

COLLECTIONS = ("jobs", "output", "workers", "shared", "tally", "bells", "rings", "counters", "events")
NEWEST = 3
ARCHIVE = {"_id": "archive"}
"""The document that marks the database of an archive and names its queue."""


class Index(Struct, frozen=True):
    """One index. `only`: the fields that a document must have to be in the index."""

    name: str
    keys: tuple[str, ...]
    only: tuple[str, ...] = ()
    unique: bool = False

    def model(self) -> IndexModel:
        """The index in the form of the driver."""
        partial = {field: {"$exists": True} for field in self.only}
        options = {"partialFilterExpression": partial} if partial else {}
        return IndexModel([(key, 1) for key in self.keys], name=self.name, unique=self.unique, **options)


JOBS = (
    Index("id", ("id",), unique=True),
    Index("live", ("live", "_id"), ("live",)),
    Index("standing", ("standing", "_id")),
    Index("ready", ("ready", "sort_key", "_id"), ("ready",)),
    Index("delayed", ("delayed", "_id"), ("delayed",)),
    Index("leased", ("lease_until", "_id"), ("lease_until",)),
    Index("key", ("key",), ("key",), unique=True),
    Index("ended", ("state", "finished_at", "_id"), ("finished_at",)),
    Index("ended_updated", ("state", "updated_at", "_id"), ("finished_at",)),
    Index("batch", ("batch", "_id"), ("batch",)),
    Index("tags", ("tags", "_id"), ("tags",)),
    Index("unique_key", ("unique_key", "_id"), ("unique_key",)),
    Index("waiting_for", ("waiting_for", "_id"), ("waiting_for",)),
    Index("owed", ("owed",), ("owed",)),
    Index("risen", ("live",), ("live", "counted")),
    Index("unpublished", ("unpublished", "_id"), ("unpublished",)),
)
OUTPUT = (Index("job", ("job",)),)
SHARED = (Index("due", ("due",), ("due",)),)


def version(base: Base) -> int:
    """The schema of the database, or 0 if there is none."""
    found = base["counters"].find_one({"_id": "schema"})
    number = found.get("n") if found else None
    return number if isinstance(number, int) else 0


def refuse_archive(base: Base, shown: str) -> None:
    """Refuse the database of an archive: its jobs belong to a queue in Redis."""
    if base["counters"].find_one(ARCHIVE) is not None:
        raise StoreUnusable(
            f"{shown} is the archive of a queue in Redis",
            "open that queue: redis://…?archive=…; or name another database",
        )


def bring_up_to_date(base: Base, shown: str, *, create: bool) -> None:
    """Refuse a newer schema, and create a missing one. Without `create` a missing schema is an error."""
    found = version(base)
    if found > NEWEST:
        raise StoreUnusable(
            f"{shown} has schema {found}, and this program knows schemas up to {NEWEST}",
            "a newer queuectl has used it: upgrade this one",
        )
    if not found and not create:
        raise StoreAbsent(f"{shown}: there is no queue", "the queue existed before: check the URL")
    if found < NEWEST:
        _make(base, shown)
    elif {index.name for index in JOBS} - base["jobs"].index_information().keys():
        # An index may be missing: it was dropped, or the database was restored without indexes.
        _index(base, shown)


def _index(base: Base, shown: str) -> None:
    try:
        base["jobs"].create_indexes([index.model() for index in JOBS])
        base["output"].create_indexes([index.model() for index in OUTPUT])
        base["shared"].create_indexes([index.model() for index in SHARED])
    except OperationFailure as error:
        if error.code != _DUPLICATE:
            raise
        raise StoreUnusable(
            f"{shown} has lost its indexes, and there are jobs with the same id or unique key",
            "restore it from a backup, with its indexes",
        ) from error


def _make(base: Base, shown: str) -> None:
    there = set(base.list_collection_names())
    if _is_foreign(base) and not version(base):  # with a version, another process has just created the schema
        raise StoreUnusable(
            f"{shown} contains collections of another program",
            "name a database for the queue alone: mongodb://host/NAME",
        )
    for name in COLLECTIONS:
        if name not in there:
            _create(base, name, notify.LOGGED if name == "rings" else {})
    _index(base, shown)
    base["counters"].update_one({"_id": "number"}, {"$setOnInsert": {"n": 0}}, upsert=True)
    no_events = {"first": 1, "cleared": 0}
    base["counters"].update_one({"_id": "events"}, {"$setOnInsert": no_events}, upsert=True)
    base["tally"].update_one({"_id": "ended"}, {"$setOnInsert": {"fold": 0, "counts": "{}"}}, upsert=True)
    for name in STORED_NAMES:
        never = {"rings": 0, "at": datetime.fromtimestamp(0, UTC)}
        base["bells"].update_one({"_id": name}, {"$setOnInsert": never}, upsert=True)
    if not base["rings"].find_one():  # because a tailable cursor cannot follow an empty collection
        base["rings"].insert_one({"bell": "none"})
    base["counters"].update_one({"_id": "schema"}, {"$max": {"n": NEWEST}}, upsert=True)


def _is_foreign(base: Base) -> bool:
    """Whether another program has collections with our names. Called if there is no schema, so they are not ours."""
    used = any(base[name].find_one() is not None for name in ("jobs", "output", "workers", "shared"))
    return used or base["counters"].find_one({"_id": "schema"}) is not None


def _create(base: Base, name: str, options: dict[str, Any]) -> None:
    try:
        base.create_collection(name, **options)
    except (CollectionInvalid, OperationFailure) as error:
        if isinstance(error, OperationFailure) and error.code != _EXISTS:
            raise


_EXISTS, _DUPLICATE = 48, 11000
