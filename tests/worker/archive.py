"""A store whose archive may be unreachable: everything works except archived jobs."""

from collections.abc import Sequence

from queuectl.domain.event import Actor
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable
from queuectl.store.memory import MemoryStore


class Troubled(MemoryStore):
    """A store with an archive of the jobs in `past`; `away` makes the archive unreachable, and `met` is the last
    error."""

    def __init__(self) -> None:
        super().__init__()
        self.past: set[str] = set()
        self.away: str | None = None
        self.met: str | None = None
        self.questions = 0

    def background_fault(self) -> str | None:
        return self.met

    def _ask_the_archive(self) -> None:
        self.questions += 1
        self.met = self.away
        if self.away is not None:
            raise StoreUnavailable(self.away)

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        if self.past & set(ids):
            self._ask_the_archive()
        return super().get(ids)

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        self._ask_the_archive()
        return super().purge(wanted, limit, tell=tell)
