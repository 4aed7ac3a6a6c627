"""A queue and its archive for tests of moves between the two: only the test starts a move."""

from contextlib import closing
from typing import Any

from contract import redis_integrity
from contract.grounds import ArchivedGround
from queuectl.domain.query import Counts, Filter, Page
from queuectl.store.redis_archive import ArchivedStore
from queuectl.store.redis_archive.archive import Archive
from queuectl.store.redis_archive.audit import Audit
from servers.mongo import GivenMongo, MongoServer
from servers.redis import GivenRedis, RedisServer

PATIENCE = 10.0


class Between(ArchivedGround):
    """`open` returns a real handle whose archiver runs only when a test calls it."""

    def __init__(self, server: RedisServer | GivenRedis, archive: MongoServer | GivenMongo) -> None:
        super().__init__(server, archive)
        self.archive_url = self.past.url

    def _store(self, *, patience: float = PATIENCE, **options: Any) -> ArchivedStore:
        url = self.archive_url
        return ArchivedStore(
            self.url, lambda: Archive(url, patience), clock=self.clock, patience=patience, **options
        )

    def leave(self) -> None:
        super().leave()
        self.archive_url = self.past.url

    def fresh(self, **options: Any) -> ArchivedStore:
        """A new handle, which the ground closes."""
        store: Any = self.open(**options)
        assert isinstance(store, ArchivedStore)
        return store

    def key(self, name: str) -> str:
        """One of the queue's keys."""
        return f"{self.tag}:{name}"

    def copies(self) -> list[str]:
        """The ids of all documents that the archive has, jobs or not."""
        return sorted(document["id"] for document in self.past.base["jobs"].find())

    def here(self) -> list[str]:
        """The ids of the jobs that are in Redis."""
        return sorted(id.decode() for id in self.server.call("HKEYS", self.key("ids")))

    def unmoved(self) -> int:
        """Entries of the stream."""
        return int(self.server.call("XLEN", self.key("stream")))

    def faults(self) -> dict[str, int]:
        """Where indexes, or queue and archive, do not agree; nothing, as a rule."""
        with closing(self._store()) as store:
            found = Audit(store._queue, store._archive).look()
        return {**redis_integrity.faults(self.server.call, self.tag), **found}


def move_all(store: ArchivedStore) -> None:
    """Move until there is nothing to move."""
    while store.archiver.archive_batch():
        pass


def ids(store: ArchivedStore, wanted: Filter | None = None) -> list[str]:
    """The ids of all jobs that match, over all pages, each as often as it is found."""
    found, after = list[str](), None
    while True:
        page = store.find(wanted or Filter(), Page(limit=3, after=after))
        found += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            return sorted(found)


def counted(store: ArchivedStore, wanted: Filter | None = None) -> dict[str, int]:
    """The number of jobs in each state."""
    counts: Counts = store.counts(wanted or Filter())
    return dict(counts.states())
