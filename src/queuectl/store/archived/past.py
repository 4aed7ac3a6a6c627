"""The archive: a database in MongoDB that holds jobs that have ended, and what they printed.

It lies as a queue's does, so that the same questions can be asked of it; nothing in it is ever claimed. A job's number
and version decide: what comes twice is kept once, what is older than what is there is not kept.
"""

from collections.abc import Sequence

from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Counts, Filter, Found, Page
from queuectl.store.mongo import address, description, documents, finding, output, purging, schema
from queuectl.store.mongo.connections import SAFE, Base, Connections
from queuectl.store.mongo.faults import duplicates


class Past:
    """What can be asked of the archive, and done to it."""

    def __init__(self, url: str, patience: float) -> None:
        self._connections = Connections(address.parse(url), SAFE, patience, self._greet)

    def _greet(self, base: Base) -> None:
        shown = self._connections.address.shown
        description.refuse_unfit(description.server(base), shown)
        schema.bring_up_to_date(base, shown, create=True)

    @property
    def shown(self) -> str:
        """Its URL, without a password."""
        return self._connections.address.shown

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        """The jobs with these ids."""
        return self._connections.read(lambda base: finding.get(base, ids)) if ids else {}

    def find(self, wanted: Filter, page: Page) -> Found:
        """A page of them."""
        return self._connections.read(lambda base: finding.find(base, wanted, page))

    def count(self, wanted: Filter) -> Counts:
        """How many match, one by one."""
        return self._connections.read(lambda base: finding.count_each(base, wanted))

    def oldest(self, wanted: Filter, limit: int) -> list[Job]:
        """Those that match and ended longest ago."""
        return self._connections.read(lambda base: purging.oldest_jobs(base, wanted, limit))

    def read_output(self, attempt_id: str, after: int, limit: int) -> list[Chunk]:
        """The chunks of an attempt after a number."""
        return self._connections.read(lambda base: output.read(base, attempt_id, after, limit))

    def keep(self, jobs: Sequence[Job], chunks: Sequence[tuple[int, Chunk]]) -> None:
        """Keep these, the output first: most members have it in their journals when this is back."""
        self._connections.write(lambda base: _keep(base, jobs, chunks))

    def let_go(self, number: int, below: int) -> bool:
        """Delete the copy of a job that has a version below this one. False if there is a newer one."""
        return self._connections.write(lambda base: _let_go(base, number, below))

    def holds(self, numbers: Sequence[int]) -> set[int]:
        """Which of these jobs are there."""
        found = {"_id": {"$in": list(numbers)}}
        return self._connections.read(lambda base: {d["_id"] for d in base["jobs"].find(found, {"_id": 1})})

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete jobs with their output. Twice is once."""
        self._connections.write(lambda base: _delete(base, numbers))

    def describe(self) -> dict[str, str]:
        """Its address and size, for `doctor`."""
        jobs = self._connections.read(lambda base: base["jobs"].estimated_document_count())
        return {"archive": self.shown, "archived_jobs": str(jobs)}

    def close(self) -> None:
        """Let go of all connections."""
        self._connections.close()


def _keep(base: Base, jobs: Sequence[Job], chunks: Sequence[tuple[int, Chunk]]) -> None:
    output.keep(base, chunks)
    upserts = [
        ReplaceOne({"_id": job.number, "version": {"$lt": job.version}}, _document(job), upsert=True)
        for job in jobs
    ]
    try:
        base["jobs"].bulk_write(upserts, ordered=False)
    except BulkWriteError as error:
        refused = [jobs[place] for place in duplicates(error)]
        _make_room(base, refused)


def _make_room(base: Base, refused: Sequence[Job]) -> None:
    """What was refused is there already; or another job, long past, had the same id."""
    for job in refused:
        if base["jobs"].delete_one({"id": job.id, "_id": {"$ne": job.number}}).deleted_count:
            base["jobs"].replace_one({"_id": job.number}, _document(job), upsert=True)


def _document(job: Job) -> documents.Document:
    document = documents.new(job, job.number, job.updated_at)
    document.pop("owed", None)  # an archive has no ledger: the queue goes on counting what it has handed over
    return document


def _let_go(base: Base, number: int, below: int) -> bool:
    if base["jobs"].delete_one({"_id": number, "version": {"$lt": below}}).deleted_count:
        return True
    return base["jobs"].find_one({"_id": number}, {"_id": 1}) is None


def _delete(base: Base, numbers: Sequence[int]) -> None:
    base["jobs"].delete_many({"_id": {"$in": list(numbers)}})
    base["output"].delete_many({"job": {"$in": list(numbers)}})
