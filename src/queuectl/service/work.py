"""Queries for a worker: whether work is left in its queues, and whether the jobs of other workers succeed."""

from collections.abc import Sequence
from datetime import timedelta

from queuectl.domain.job import State
from queuectl.domain.query import Filter, Page
from queuectl.domain.queue import QueueSettings
from queuectl.store.protocol import Store

_UNFINISHED: frozenset[State] = frozenset(("processing", "failed"))


def is_left(store: Store, queues: Sequence[str]) -> bool:
    """Whether a job runs or waits for a retry in these queues (an empty list means all queues).

    Paused queues do not count. Jobs that cannot be decoded do not count either, because no worker runs them: the
    counts include them, so each queue with a count is also searched for one readable job.
    """
    paused = {
        name for name, entry in store.read_table("queues").items() if QueueSettings.of(entry.value).paused
    }
    counted = [
        name
        for name, counts in store.counts(Filter()).queues.items()
        if (counts.get("processing") or counts.get("failed"))
        and (not queues or name in queues)
        and name not in paused
    ]
    return any(store.find(Filter(queue=name, states=_UNFINISHED), Page(limit=1)).jobs for name in counted)


def others_succeed(store: Store, worker: str) -> bool:
    """Whether a worker other than this one completed a job within the last minute."""
    recent = store.find(Filter(states=frozenset(("completed",))), Page(limit=50, sort="updated")).jobs
    since = store.now() - timedelta(minutes=1)
    return any(job.history and job.history[-1].worker != worker for job in recent if job.updated_at > since)
