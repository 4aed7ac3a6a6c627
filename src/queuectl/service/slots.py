"""The slots of workers, with the jobs that have claims on them."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Found, Page
from queuectl.domain.worker import Slot
from queuectl.service.worker_status import SlotStatus, WorkerStatus
from queuectl.store.protocol import Store

PROCESSING_SEEN = 2000
"""At most this many running jobs are read to show the slots. If there are more, the reports of workers are shown."""


def running(store: Store) -> Found:
    """The running jobs, but at most `PROCESSING_SEEN`."""
    return store.find(Filter(states=frozenset(("processing",))), Page(limit=PROCESSING_SEEN))


def occupied(found: Sequence[WorkerStatus], running: Found) -> list[WorkerStatus]:
    """The workers with the jobs in their slots, taken from the claims.

    A worker reports its slots half a second late, and a lost worker reports nothing; the claims are always true.
    """
    claimed: dict[str, list[Job]] = {}
    for job in sorted(running.jobs, key=claim_order):
        claimed.setdefault(job.lease.worker if job.lease else "", []).append(job)
    return [_occupied(item, claimed.get(item.worker.id, []), complete=running.next is None) for item in found]


def claim_order(job: Job) -> tuple[datetime, int]:
    """A sort key: the order in which a holder starts jobs."""
    return (job.lease.claimed_at if job.lease else job.updated_at), job.number


def _occupied(item: WorkerStatus, jobs: Sequence[Job], *, complete: bool) -> WorkerStatus:
    reported = {slot.job: slot for slot in item.worker.slots if slot.job}
    slots: dict[int, SlotStatus] = {}
    unplaced: list[Job] = []
    for job in jobs:
        known = reported.get(job.id)
        at = job.lease.slot if job.lease and job.lease.slot is not None else known.slot if known else None
        if at is None or at in slots or at >= item.worker.count:
            unplaced.append(job)
        else:
            slots[at] = _slot(at, job, known)
    if not complete:
        seen = {job.id for job in jobs}
        missing = (slot for slot in item.worker.slots if slot.job and slot.job not in seen)
        slots |= {
            slot.slot: SlotStatus(slot.slot, slot.job, slot.since, stopped=slot.stopped)
            for slot in missing
            if slot.slot not in slots
        }
    free = [n for n in range(item.worker.count) if n not in slots]
    for at, job in zip(free, unplaced, strict=False):  # a holder starts jobs in the order of their claims
        slots[at] = _slot(at, job, None)
    shown = tuple(slots.get(n, SlotStatus(n)) for n in range(item.worker.count))
    return replace(item, slots=shown, ahead=max(0, len(unplaced) - len(free)))


def _slot(at: int, job: Job, known: Slot | None) -> SlotStatus:
    lease = job.lease
    since = (
        (lease.started_at if lease else None)
        or (known.since if known else None)
        or (lease.claimed_at if lease else None)
    )
    stopped = known is not None and known.stopped
    return SlotStatus(at, job.id, since, job.number, job.spec.title(), stopped, job.progress)
