"""The status of the whole system: counts, queues, workers, and what needs a person."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from queuectl.config import Settings
from queuectl.domain.job import STATES, State
from queuectl.domain.query import Counts, Filter, Found, Page
from queuectl.service import queue_status, worker_status
from queuectl.service.queue_status import QueueStatus
from queuectl.service.slots import claim_order, occupied, running
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import Store

LOOKS = 5
"""Maximum number of times that the counts and the running jobs are read. They are read again until they agree: a job
may start or end between the two queries."""
RECENT_SEEN = 200
"""At most this many of the newest failed and dead jobs are read to count those of the last hour."""


class LastHour(Struct, frozen=True):
    """How many jobs failed within the last hour and wait for their retry, and how many died.

    Only the `RECENT_SEEN` newest jobs of each kind are read. `deaths` is None if dead jobs are in an archive, because
    this query does not open the archive.
    """

    retries: int
    deaths: int | None


Kind = Literal[
    "no_worker",
    "paused_queue",
    "lost_worker",
    "paused_worker",
    "lapsed_lease",
    "stopped_command",
    "clock_skew",
    "clock_jump",
    "unused_variables",
    "unreadable",
    "schedule",
    "hook",
    "disk",
]


class Attention(Struct, frozen=True):
    """One problem that needs a person. `hint`: a command to paste. `fault`: makes `doctor` exit with 1."""

    kind: Kind
    text: str
    hint: str | None = None
    fault: bool = True


class Status(Struct, frozen=True):
    """A summary of the whole system.

    `live` counts the slots of live workers, `processing` those with a job; `ahead` counts the other claims of live
    workers, and `lost` the running jobs of workers that are lost or not in the registry. `attention`: the problems
    that need a person; `attention.attention` finds them.
    """

    url: str
    durability: str
    jobs: dict[State, int]
    queues: list[QueueStatus]
    workers: list[WorkerStatus]
    live: int
    processing: int
    ahead: int
    lost: int
    last_hour: LastHour
    now: datetime
    attention: Sequence[Attention] = ()


def status(store: Store, settings: Settings) -> Status:
    """Counts, queues and workers. `attention` is empty.

    The cost grows with the number of queues, workers and running jobs, and not with the number of ended jobs.
    """
    counts, running = _counts_and_running(store)
    now = store.now()  # read after the running jobs, so that every claim is earlier than `now`
    sums = counts.states()
    found = occupied(worker_status.workers(store, settings, now), running)
    living = [item for item in found if item.state != "lost"]
    live = sum(item.worker.count for item in living)
    busy = sum(1 for item in living for slot in item.slots if slot.job)
    known = {item.worker.id for item in living}
    lost = sum(1 for job in running.jobs if job.lease is None or job.lease.worker not in known)
    ahead = max(0, sums.get("processing", 0) - busy - lost)
    said = store.describe()
    return Status(
        url=said.url,
        durability=said.durability,
        jobs={state: sums.get(state, 0) for state in STATES},
        queues=queue_status.with_counts(store, counts.queues, store.due_since()),
        workers=found,
        live=live,
        processing=busy,
        ahead=ahead,
        lost=lost,
        last_hour=_last_hour(store, sums, now, archived=said.archived),
        now=now,
    )


def _last_hour(store: Store, sums: dict[State, int], now: datetime, *, archived: bool) -> LastHour:
    def recent(state: State) -> int:
        if not sums.get(state):
            return 0
        newest = store.find(Filter(states=frozenset((state,))), Page(limit=RECENT_SEEN)).jobs
        return sum(1 for job in newest if job.updated_at > now - timedelta(hours=1))

    return LastHour(
        retries=recent("failed"), deaths=None if archived and sums.get("dead") else recent("dead")
    )


def _counts_and_running(store: Store) -> tuple[Counts, Found]:
    """The counts and the running jobs, if possible of the same time, so that they agree.

    They are two queries. If jobs ended or began between the two, both are repeated; a claim or a record of results is
    one commit for many jobs, so a pair without a change between soon succeeds. If none did, jobs that were claimed
    after the count are left out, and jobs that have ended since are counted as ahead of their workers (`status`).
    """
    for _ in range(LOOKS):
        counts = store.counts(Filter())
        found = running(store)
        if found.next is not None or len(found.jobs) == counts.of("processing"):
            return counts, found
    oldest = sorted(found.jobs, key=claim_order)[: counts.of("processing")]
    return counts, Found(oldest, None)
