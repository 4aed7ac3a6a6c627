"""A command that runs inside a job must not wait for that job, nor for the slot that it keeps itself."""

from collections.abc import Iterable, Sequence

from queuectl.config import Settings
from queuectl.domain.ids import handle
from queuectl.domain.job import Job
from queuectl.errors import Conflict
from queuectl.service import queries
from queuectl.service.attention import serving
from queuectl.store.protocol import Store

ANCESTORS_SEEN = 1000


def refuse_to_wait(store: Store, own: Job, ids: Sequence[str]) -> None:
    """Raises Conflict if one of these jobs is the one inside which this command runs, or waits for it."""
    if own.id in ids:
        raise Conflict(
            f"this command runs inside job {handle(own)}, which would wait for itself", "name other jobs"
        )
    if own.id in _ancestors(store, ids):
        raise Conflict(
            f"this command runs inside job {handle(own)}, and what it would wait for waits for that job",
            "let the job end first: what has to follow can be enqueued with --after",
        )


def refuse_without_slot(store: Store, settings: Settings, own: Job, queues: Iterable[str]) -> None:
    """Raises Conflict if nothing can run a job of one of these queues while this command waits for it.

    So it is where the only live slot is the one that `own` keeps, and where `own` keeps its queue at its limit of one.
    """
    workers = queries.workers(store, settings)
    limits = {queue.name: queue.limit for queue in queries.queues(store)}
    for queue in queues:
        slots = serving(workers, queue)
        mine = any(own.lease and own.lease.worker == item.worker.id for item in slots)
        why = f"this command runs inside job {handle(own)}, which"
        if mine and sum(item.worker.count for item in slots) <= 1:
            raise Conflict(
                f"{why} keeps the only slot that serves queue {queue}: it would wait for ever",
                "give the worker another slot (queuectl worker start --count 2), or do not wait",
            )
        if limits.get(queue) == 1 and own.queue == queue:
            raise Conflict(
                f"{why} is the one job that queue {queue} may run at once: it would wait for ever",
                "use another queue, or do not wait",
            )


def _ancestors(store: Store, ids: Sequence[str]) -> set[str]:
    """All that these jobs still wait for, directly or not, as far as a person would have written it."""
    seen: set[str] = set()
    next_ids = list(ids)[:ANCESTORS_SEEN]
    while next_ids and len(seen) < ANCESTORS_SEEN:
        parents = {parent for job in store.get(next_ids).values() for parent in job.waiting_for}
        next_ids = sorted(parents - seen)
        seen |= parents
    return seen
