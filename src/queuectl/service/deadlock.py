"""The deadlocks of a job whose command waits: for its own job, or for a slot that its own job occupies."""

from collections.abc import Iterable, Sequence

from queuectl.config import Settings
from queuectl.domain.ids import handle
from queuectl.domain.job import WAITING, Job
from queuectl.errors import Conflict
from queuectl.service import queue_status, worker_status
from queuectl.service.attention import serving
from queuectl.store.protocol import Store

ANCESTORS_SEEN = 1000
FEW = 1000
"""At most this many jobs are read to check whether another slot can run them."""


def refuse_to_wait(store: Store, own: Job, ids: Sequence[str]) -> None:
    """Raise Conflict if one of these jobs runs this command (`own`), or waits for `own`."""
    if own.id in ids:
        raise Conflict(
            f"this command runs inside job {handle(own)}, which would wait for itself", "name other jobs"
        )
    if own.id in _ancestors(store, ids):
        raise Conflict(
            f"this command runs inside job {handle(own)}, and a job that it would wait for waits for that job",
            "let the job end first: what has to follow can be enqueued with --after",
        )


def refuse_without_slot(
    store: Store, settings: Settings, own: Job, ids: Sequence[str], queues: Iterable[str] | None
) -> None:
    """Raise Conflict if nothing can run a job of one of these queues while this command waits for it.

    That is the case if `own` occupies the only live slot, or if `own` is the one job that its queue may run at once.
    `queues=None` stands for the queues of the given jobs that wait to run.
    """
    if queues is None:
        waiting = [job for job in store.get(ids[:FEW]).values() if job.state in WAITING]
        queues = sorted({job.queue for job in waiting})
    workers = worker_status.workers(store, settings)
    limits = {queue.name: queue.limit for queue in queue_status.queues(store)}
    for queue in queues:
        slots = serving(workers, queue)
        mine = any(own.lease and own.lease.worker == item.worker.id for item in slots)
        why = f"this command runs inside job {handle(own)}, which"
        if mine and sum(item.worker.count for item in slots) <= 1:
            raise Conflict(
                f"{why} occupies the only slot that serves queue {queue}: it would wait for ever",
                "give the worker another slot (queuectl worker start --count 2), or do not wait",
            )
        if limits.get(queue) == 1 and own.queue == queue:
            raise Conflict(
                f"{why} is the one job that queue {queue} may run at once: it would wait for ever",
                "use another queue, or do not wait",
            )


def _ancestors(store: Store, ids: Sequence[str]) -> set[str]:
    """The jobs that these jobs still wait for, directly or indirectly: at most about `ANCESTORS_SEEN`."""
    seen: set[str] = set()
    next_ids = list(ids)[:ANCESTORS_SEEN]
    while next_ids and len(seen) < ANCESTORS_SEEN:
        parents = {parent for job in store.get(next_ids).values() for parent in job.waiting_for}
        next_ids = sorted(parents - seen)
        seen |= parents
    return seen
