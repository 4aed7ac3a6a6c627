"""The workers of a store. A result may be slightly old, so a command checks again what it depends on."""

from datetime import datetime, timedelta

from msgspec import Struct

from queuectl.config import Settings
from queuectl.domain.job import Job, Progress
from queuectl.domain.query import Filter
from queuectl.domain.worker import Worker
from queuectl.service.paging import pages
from queuectl.store.protocol import Store

MISSED_BEATS = 3
"""A worker counts as lost after this many missed heartbeats."""


class SlotStatus(Struct, frozen=True):
    """A slot with the job that it runs. Number, command and progress are known only where the job was read.

    `stopped`: a process of the command has been stopped (SIGSTOP).
    """

    slot: int
    job: str | None = None
    since: datetime | None = None
    number: int | None = None
    command: str | None = None
    stopped: bool = False
    progress: Progress | None = None


class WorkerStatus(Struct, frozen=True):
    """A worker, and whether it lives: running, draining, paused, or lost.

    `ahead` counts the jobs that the worker has claimed and that are in no slot: jobs that wait for the next free slot
    (while jobs are very short), and jobs that have ended and are about to be recorded.
    """

    worker: Worker
    state: str
    slots: tuple[SlotStatus, ...] = ()
    ahead: int = 0


def workers(store: Store, settings: Settings, now: datetime | None = None) -> list[WorkerStatus]:
    """The registered workers: whether each lives, and its slots as last reported."""
    found = store.workers()
    now = now or store.now()
    silence = max(settings.heartbeat_interval * MISSED_BEATS, timedelta(seconds=3))
    return [
        WorkerStatus(
            worker,
            "lost" if worker.heartbeat is None or now - worker.heartbeat > silence else worker.state,
            tuple(SlotStatus(slot.slot, slot.job, slot.since) for slot in worker.slots),
        )
        for worker in found
    ]


def claimed_by(store: Store, worker: str) -> list[Job]:
    """All jobs that a worker has claimed and whose results are not stored yet."""
    wanted = Filter(states=frozenset(("processing",)), worker=worker)
    return [job for found in pages(store, wanted, 500) for job in found.jobs]
