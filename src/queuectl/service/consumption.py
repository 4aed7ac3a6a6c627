"""The vital signs of a store, and whether the due jobs of each queue are consumed.

A queue is consumed if nothing is due, if it may start nothing (paused, or at its limit), or if one of these is true:
its longest waiting job became due only within the grace; a worker took a job from it within the grace; or all slots
that serve it are busy with jobs whose leases are renewed. Each worker notes the time of its last claim for each queue,
so a busy queue does not hide one that no worker serves.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from queuectl.config import Settings
from queuectl.domain.hook import hook_of
from queuectl.domain.job import Job
from queuectl.domain.operation import OperationState
from queuectl.domain.queue import QueueSettings
from queuectl.domain.schedule import removed_of
from queuectl.service import attention, operations, queue_status, worker_status
from queuectl.service.queue_status import QueueStatus
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import Store

LEAST_GRACE = timedelta(seconds=30)
UPCOMING = 100
"""At most this many entries are read to find a late schedule."""
EXPIRED_SEEN = 100
"""At most this many jobs with an expired lease are read to find the workers that do not renew."""


class Vitals(Struct, frozen=True):
    """The vital signs of a store at one time.

    enqueued    the highest job number that was assigned
    operations  the number of operations that are carried on behind, and of those that ended lately, by state
    unconsumed  a sentence for each queue whose due jobs are not consumed
    failing     the number of hooks whose newest attempt failed
    late        since when the schedule has been due that is due for the longest time; None if none is
    """

    now: datetime
    queues: Sequence[QueueStatus]
    workers: Sequence[WorkerStatus]
    enqueued: int
    operations: Mapping[OperationState, int]
    unconsumed: Sequence[str]
    failing: int = 0
    late: datetime | None = None


def vitals(store: Store, settings: Settings) -> Vitals:
    """Read the vital signs. The cost grows with the number of queues and workers, and not with the number of jobs."""
    queues = queue_status.queues(store, oldest_due=True)
    now = store.now()  # read after the queues, so that each job became due before it
    workers = worker_status.workers(store, settings, now)
    expired = store.expired_leases(EXPIRED_SEEN)
    return Vitals(
        now=now,
        queues=queues,
        workers=workers,
        enqueued=store.last_number(),
        operations=Counter(each.state for each in operations.all_of(store)),
        unconsumed=list(unconsumed(queues, workers, expired, now, grace(settings.lease))),
        failing=_failing(store),
        late=_late(store, now),
    )


def _failing(store: Store) -> int:
    hooks = (hook_of(name, entry.value) for name, entry in store.read_table("hooks").items())
    return sum(hook is not None and hook.failing_since is not None for hook in hooks)


def _late(store: Store, now: datetime) -> datetime | None:
    """When the first due schedule became due. Removed schedules are due too, for their deletion."""
    due = (each for each in store.upcoming(UPCOMING) if each.due <= now and each.table == "schedules")
    return next((each.due for each in due if not removed_of(each.entry.value)), None)


def grace(lease: timedelta) -> timedelta:
    """How long a due job may wait before its queue counts as not consumed."""
    return max(LEAST_GRACE, 2 * lease)


def unconsumed(
    queues: Sequence[QueueStatus],
    workers: Sequence[WorkerStatus],
    expired: Sequence[Job],
    now: datetime,
    allowed: timedelta,
) -> Iterator[str]:
    """A sentence for each queue whose due jobs are not consumed, with the cause."""
    silent = {job.lease.worker for job in expired if job.lease}
    for queue in queues:
        if queue.oldest_due is None or now - queue.oldest_due <= allowed or not _may_start(queue):
            continue
        claims = [item.worker.claimed_at.get(queue.name) for item in workers]
        if any(at is not None and now - at <= allowed for at in claims):
            continue
        serving = attention.serving(workers, queue.name)
        if not serving or not all(_is_busy(item) and item.worker.id not in silent for item in serving):
            waiting = attention.waiting_in_words(queue, now)
            cause = "its workers take no job" if serving else "no worker serves it"
            yield f"queue {queue.name}: {waiting}, and {cause}"


def _may_start(queue: QueueStatus) -> bool:
    settings = QueueSettings(queue.paused, queue.limit)
    return settings.capacity(queue.jobs.get("processing", 0), 1) > 0


def _is_busy(item: WorkerStatus) -> bool:
    return all(slot.job for slot in item.slots)
