"""What an agent wants to know of the work that others do or wait for."""

from collections.abc import Sequence
from datetime import timedelta

from queuectl.domain.job import State
from queuectl.domain.query import Filter, Page
from queuectl.domain.queue import is_paused
from queuectl.store.protocol import Store


def is_left(store: Store, queues: Sequence[str]) -> bool:
    """Whether something runs or waits for a retry in these queues (none named: in all); paused ones do not count.

    Nor does what cannot be decoded, which no worker runs any more.
    """
    paused = {name for name, entry in store.read_table("queues").items() if is_paused(entry.value)}
    counted = [
        name
        for name, counts in store.counts(Filter()).queues.items()
        if (counts.get("processing") or counts.get("failed"))
        and (not queues or name in queues)
        and name not in paused
    ]
    return any(store.find(Filter(queue=name, states=_UNFINISHED), Page(limit=1)).jobs for name in counted)


_UNFINISHED: frozenset[State] = frozenset(("processing", "failed"))


def others_succeed(store: Store, worker: str) -> bool:
    """Whether another worker completed a job within the last minute."""
    recent = store.find(Filter(states=frozenset(("completed",))), Page(limit=50, sort="updated")).jobs
    since = store.now() - timedelta(minutes=1)
    return any(job.history and job.history[-1].worker != worker for job in recent if job.updated_at > since)
