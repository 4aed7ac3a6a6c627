"""The archive: a database in MongoDB with copies of ended jobs and their output.

It has the collections of a queue in MongoDB, so the same code finds jobs in it, but nothing in it is ever claimed. A
copy is named by number and id, and replaced only by a copy with a greater version. So each write is idempotent, and a
late write of an old copy changes nothing. Whether a copy is a job is decided in Redis (`lifecycle.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec.structs import replace
from pymongo import DeleteMany, DeleteOne, ReplaceOne
from pymongo.errors import BulkWriteError

from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Found, Jobs, Page
from queuectl.errors import OutcomeUnknown, StoreError, StoreUnavailable
from queuectl.store.driver import codec
from queuectl.store.mongo import address, description, documents, find, output, purge, schema
from queuectl.store.mongo.connect import SAFE, Base, MongoSession
from queuectl.store.mongo.faults import duplicates
from queuectl.store.redis_archive.transfer import Copy

Answer = TypeVar("Answer")
MAX_VERSION = 2**53
"""A version above the version of every job. It is used for a copy that cannot be decoded."""
MAX_BYTES = 15_000_000
"""Maximum size of a job in bytes. A MongoDB document may have 16 MiB, and not everything is counted here."""


class Archive:
    """Reads and writes copies. `bind` checks that a database is this queue's archive before it is used."""

    def __init__(self, url: str, patience: float) -> None:
        self._connections = MongoSession(address.parse(url), SAFE, patience, self._greet)
        self.bind: Callable[[Base, str], None] = lambda base, shown: None
        self.fault: str | None = None
        """The error of the last request, or None if the archive answered."""
        self.is_watched = False
        """Whether an archiver of this process keeps trying to reach the archive during an outage."""

    def _greet(self, base: Base) -> None:
        description.refuse_unfit(description.server(base), self.shown)
        self.bind(base, self.shown)
        schema.bring_up_to_date(base, self.shown, create=True)

    def fail_fast(self) -> None:
        """Raise at once if an archiver knows that the archive cannot be reached. Otherwise each call would wait."""
        if self.is_watched and self.fault is not None:
            raise StoreUnavailable(self.fault, "the queue goes on without it")

    @property
    def shown(self) -> str:
        """The URL of the archive, without a password."""
        return self._connections.address.shown

    def get(self, ids: Sequence[str]) -> Jobs:
        """The copies with these ids."""
        self.fail_fast()
        return self._read(lambda base: find.get(base, ids)) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        """One page of the copies that match."""
        self.fail_fast()
        return self._read(lambda base: find.find(base, wanted, page))

    def oldest(self, wanted: Filter, limit: int) -> list[Job]:
        """The matching copies of jobs that ended longest ago."""
        self.fail_fast()
        return self._read(lambda base: purge.oldest_jobs(base, wanted, limit))

    def read_output(self, attempt_id: str, after: int, limit: int) -> list[Chunk]:
        """The chunks of an attempt with a number greater than `after`."""
        self.fail_fast()
        return self._read(lambda base: output.read(base, attempt_id, after, limit))

    def put_output(self, chunks: Sequence[tuple[int, Chunk]]) -> None:
        """Store chunks of output, each with the number of its job."""
        if chunks:
            self._write(lambda base: output.keep(base, chunks))

    def put(self, jobs: Sequence[Job], number: Callable[[], int]) -> list[Job]:
        """Store copies.

        Returns the jobs that are too large for a document. `number`: a function that returns a new number.
        """
        if not jobs:
            return []
        return self._write(lambda base: _put(base, jobs, number))

    def delete_below(self, jobs: Iterable[tuple[int, str, int]]) -> None:
        """Delete copies (given by number and id) whose version is below this one. Output stays for the restored job."""
        deletes = [
            DeleteOne({"_id": number, "id": id, "version": {"$lt": below}}) for number, id, below in jobs
        ]
        if deletes:
            self._write(lambda base: base["jobs"].bulk_write(deletes, ordered=False))

    def delete(self, jobs: dict[int, str]) -> None:
        """Delete copies (given by number and id) with their output. Idempotent."""
        if jobs:
            self._write(lambda base: _delete(base, jobs))

    def copies(self, after: int, upto: int | None = None, limit: int = 0) -> list[Copy]:
        """The copies between two numbers, in order."""
        between: dict[str, Any] = {"$gt": after} if upto is None else {"$gt": after, "$lte": upto}
        return self._read(lambda base: _copies(base, {"_id": between}, limit))

    def damaged(self, numbers: Sequence[int]) -> list[Copy]:
        """The copies with these numbers that cannot be decoded."""
        self.fail_fast()
        return self._read(lambda base: _damaged(base, numbers))

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that have a copy in the archive."""
        return {copy.id for copy in self._read(lambda base: _copies(base, _named(ids), 0))}

    def max_number(self) -> int:
        """The greatest number of a copy, or 0 if there is no copy."""
        last = self._read(lambda base: base["jobs"].find_one({}, {"_id": 1}, sort=[("_id", -1)]))
        return int(last["_id"]) if last else 0

    def describe(self) -> dict[str, str]:
        """The size of the archive, for `doctor`."""
        jobs = self._read(lambda base: base["jobs"].estimated_document_count())
        return {"archived_jobs": str(jobs)}

    def _read(self, question: Callable[[Base], Answer]) -> Answer:
        with self._noting_faults():
            return self._connections.read(question)

    def _write(self, change: Callable[[Base], Answer]) -> Answer:
        with self._noting_faults():
            return self._connections.write(change)

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except (StoreError, OutcomeUnknown) as error:
            self.fault = error.message
            raise
        self.fault = None

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()


def _named(ids: Sequence[str]) -> dict[str, Any]:
    return {"id": {"$in": list(ids)}}


def _copies(base: Base, which: dict[str, Any], limit: int) -> list[Copy]:
    fields = {"id": 1, "version": 1, "state": 1, "queue": 1}
    found = base["jobs"].find({**which, "state": {"$exists": True}}, fields).sort("_id", 1).limit(limit)
    return [_copy(document) for document in found]


def _copy(document: documents.Document) -> Copy:
    """The key of a copy. A field that was changed by hand to another type counts as empty."""
    id, state, queue = (_text(document.get(name)) for name in ("id", "state", "queue"))
    version = document.get("version")
    return Copy(document["_id"], id, version if isinstance(version, int) else 0, state, queue)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _damaged(base: Base, numbers: Sequence[int]) -> list[Copy]:
    found = {
        d["_id"]: d for d in base["jobs"].find({"_id": {"$in": list(numbers)}, "state": {"$exists": True}})
    }
    _, damaged = codec.sift([dict(document) for document in found.values()], documents.job)
    return [replace(_copy(found[each.number]), version=MAX_VERSION) for each in damaged]


def _put(base: Base, jobs: Sequence[Job], number: Callable[[], int]) -> list[Job]:
    pairs = [(job, _document(job)) for job in jobs]
    fit = [(job, document) for job, document in pairs if _size(document) <= MAX_BYTES]
    try:
        if fit:
            base["jobs"].bulk_write([ReplaceOne(_older(j), d, upsert=True) for j, d in fit], ordered=False)
    except BulkWriteError as error:
        for position in duplicates(error):
            _resolve(base, fit[position][0], number)
    return [job for job, document in pairs if _size(document) > MAX_BYTES]


def _size(document: documents.Document) -> int:
    """The approximate size of a document in bytes."""
    return sum(len(value.encode()) for value in document.values() if isinstance(value, str))


def _older(job: Job) -> dict[str, Any]:
    return {"_id": job.number, "id": job.id, "version": {"$lt": job.version}}


def _resolve(base: Base, job: Job, number: Callable[[], int]) -> None:
    """Store a job whose write was refused: the archive has this copy already, or another job with its number or id.

    A copy with the same id and another number belongs to a job that was deleted or that the queue has lost: the new
    job replaces it. A copy with the same number and another id belongs to a job that the queue lost before it assigned
    the number again: that job is archived and stays, so it gets a new number.
    """
    other = base["jobs"].find_one({"_id": job.number}, {"spec": 0})
    if other is not None and other["id"] == job.id:
        return
    if other is not None:
        _renumber(base, job.number, number())
    base["jobs"].delete_many({"id": job.id, "_id": {"$ne": job.number}})
    base["jobs"].replace_one({"_id": job.number}, _document(job), upsert=True)


def _renumber(base: Base, number: int, fresh: int) -> None:
    """Assign another number to a copy, in an order of steps in which a crash loses nothing.

    For a short time there are two copies. The new one has an id that no job can have, because ids are unique here.
    """
    whole = base["jobs"].find_one({"_id": number})
    if whole is None:
        return
    base["jobs"].insert_one({**whole, "_id": fresh, "id": f" {whole['id']}"})
    base["output"].update_many({"job": number, "id": whole["id"]}, {"$set": {"job": fresh}})
    base["jobs"].delete_one({"_id": number, "id": whole["id"]})
    base["jobs"].update_one({"_id": fresh}, {"$set": {"id": whole["id"]}})


def _document(job: Job) -> documents.Document:
    document = documents.new(job, job.number, job.updated_at)
    document.pop("owed", None)  # the archive keeps no counts of ended jobs: Redis counts archived jobs
    return document


def _delete(base: Base, jobs: dict[int, str]) -> None:
    base["jobs"].bulk_write(
        [DeleteMany({"_id": number, "id": id}) for number, id in jobs.items()], ordered=False
    )
    base["output"].bulk_write(
        [DeleteMany({"job": number, "id": id}) for number, id in jobs.items()], ordered=False
    )
