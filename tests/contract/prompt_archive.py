"""A queue with an archive that already contains every ended job."""

from collections.abc import Sequence

from queuectl.domain.event import Actor, Event
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Counts, Filter, Found, Page
from queuectl.store.protocol import Added, Saved
from queuectl.store.redis_archive import ArchivedStore


class PromptArchive(ArchivedStore):
    """Moves all ended jobs before each verb that may read them.

    The movers of workers do so within moments, in threads of their own: a test that finishes a job and asks for it
    would find it in the queue or in the archive, as it happens, and nearly always in the queue, where the store of
    Redis alone finds it, too. So every test of the contract is made to speak of the archive. What becomes of a job
    between the two is told in tests of its own.
    """

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        self._move()
        return super().add(jobs, events)

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        self._move()
        return super().get(ids)

    def find(self, wanted: Filter, page: Page) -> Found:
        self._move()
        return super().find(wanted, page)

    def counts(self, wanted: Filter) -> Counts:
        self._move()
        return super().counts(wanted)

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        self._move()
        return super().save(jobs, events)

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        self._move()
        return super().read_output(attempt_id, after, limit)

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        self._move()
        return super().purge(wanted, limit, tell=tell)

    def _move(self) -> None:
        while self.archiver.archive_batch():
            pass
