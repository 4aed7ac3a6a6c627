"""The queues of a store. A result may be slightly old, so a command checks again what it depends on."""

from datetime import datetime

from msgspec import Struct

from queuectl.domain.job import State
from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueSettings
from queuectl.store.protocol import Entry, Store


class QueueStatus(Struct, frozen=True):
    """One queue with its jobs per state.

    reason      why a person paused it
    oldest_due  since when its longest waiting job has been due (None: not read)
    version     of its settings; 0 if it has none
    """

    name: str
    paused: bool
    limit: int | None
    jobs: dict[State, int]
    oldest_due: datetime | None = None
    reason: str | None = None
    version: int = 0


def queues(store: Store, *, oldest_due: bool = False) -> list[QueueStatus]:
    """All queues that have jobs or settings of their own. `oldest_due`: read since when their jobs have been due."""
    return with_counts(store, store.counts(Filter()).queues, store.due_since() if oldest_due else None)


def with_counts(
    store: Store, counts: dict[str, dict[State, int]], since: dict[str, datetime] | None = None
) -> list[QueueStatus]:
    """The queues with these counts of their jobs, and since when their jobs have been due."""
    entries, since = store.read_table("queues"), since or {}
    found = []
    for name in sorted({*counts, *entries, *since}):
        entry = entries.get(name) or Entry({}, 0)
        settings = QueueSettings.of(entry.value)
        found.append(
            QueueStatus(
                name=name,
                paused=settings.paused,
                limit=settings.limit,
                jobs=counts.get(name, {}),
                oldest_due=since.get(name),
                reason=settings.reason,
                version=entry.version,
            )
        )
    return found
