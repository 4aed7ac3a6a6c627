"""Queries, which change nothing. A result may be slightly old, so a command checks again what it depends on."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from queuectl.config import Settings
from queuectl.domain.ids import handle
from queuectl.domain.job import STATES, Attempt, Job, State
from queuectl.domain.output import Chunk
from queuectl.domain.query import Counts, Filter, Found, Page
from queuectl.domain.queue import QueueSettings
from queuectl.domain.worker import Slot, Worker
from queuectl.errors import NotFound
from queuectl.service.paging import pages
from queuectl.store.protocol import Store

MISSED_BEATS = 3
"""A worker counts as lost after this many missed heartbeats."""


PROCESSING_SEEN = 2000
"""At most this many running jobs are read to show the slots. If there are more, the reports of workers are shown."""
LOOKS = 5
"""How often counts and running jobs are read until both agree: jobs start and end between the two queries."""
RECENT_SEEN = 200
"""At most this many of the newest failed and dead jobs are read to count those of the last hour."""
READ_BYTES = 256 * 1024
"""About so many bytes of output are read at once, and kept in memory for one reader."""
MOST_CHUNKS = 256
"""At most this many chunks of output are read at once."""


class QueueStatus(Struct, frozen=True):
    """One queue with its jobs per state.

    `oldest_due`: since when its longest waiting job has been due (None: not read).
    """

    name: str
    paused: bool
    limit: int | None
    jobs: dict[State, int]
    oldest_due: datetime | None = None


class SlotStatus(Struct, frozen=True):
    """A slot with the job that it runs. Number and command are known only where the job was read.

    `stopped`: a process of the command has been stopped (SIGSTOP).
    """

    slot: int
    job: str | None = None
    since: datetime | None = None
    number: int | None = None
    command: str | None = None
    stopped: bool = False


class LastHour(Struct, frozen=True):
    """How many jobs failed within the last hour and wait for their retry, and how many died.

    Only the `RECENT_SEEN` newest jobs of each kind are read. `deaths` is None if dead jobs are in an archive, because
    this query does not open the archive.
    """

    retries: int
    deaths: int | None


class WorkerStatus(Struct, frozen=True):
    """A worker, and whether it lives: running, draining, paused, or lost.

    `ahead` counts the jobs that the worker has claimed and that are in no slot: jobs that wait for the next free slot
    (while jobs are very short), and jobs that have ended and are about to be recorded.
    """

    worker: Worker
    state: str
    slots: tuple[SlotStatus, ...] = ()
    ahead: int = 0


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
    found = occupied(workers(store, settings, now), running)
    living = [item for item in found if item.state != "lost"]
    live = sum(item.worker.count for item in living)
    busy = sum(1 for item in living for slot in item.slots if slot.job)
    held = {item.worker.id for item in living}
    lost = sum(1 for job in running.jobs if job.lease is None or job.lease.worker not in held)
    ahead = max(0, sums.get("processing", 0) - busy - lost)
    said = store.describe()
    return Status(
        url=said.url,
        durability=said.durability,
        jobs={state: sums.get(state, 0) for state in STATES},
        queues=_queues(store, counts.queues, store.due_since()),
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
    oldest = sorted(found.jobs, key=_claimed)[: counts.of("processing")]
    return counts, Found(oldest, None)


def running(store: Store) -> Found:
    """The running jobs, but at most `PROCESSING_SEEN`."""
    return store.find(Filter(states=frozenset(("processing",))), Page(limit=PROCESSING_SEEN))


def occupied(found: Sequence[WorkerStatus], running: Found) -> list[WorkerStatus]:
    """The workers with the jobs in their slots, taken from the claims.

    A worker reports its slots half a second late, and a lost worker no more; the claims in the store are always true.
    """
    held: dict[str, list[Job]] = {}
    for job in sorted(running.jobs, key=_claimed):
        held.setdefault(job.lease.worker if job.lease else "", []).append(job)
    return [_occupied(item, held.get(item.worker.id, []), complete=running.next is None) for item in found]


def _claimed(job: Job) -> tuple[datetime, int]:
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
    return SlotStatus(at, job.id, since, job.number, job.spec.title(), stopped)


def queues(store: Store, *, oldest_due: bool = False) -> list[QueueStatus]:
    """All queues that have jobs or settings of their own. `oldest_due`: read since when their jobs have been due."""
    return _queues(store, store.counts(Filter()).queues, store.due_since() if oldest_due else None)


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


def attempt_of(job: Job, number: int | None) -> str | None:
    """The attempt id of the wanted attempt (None: the newest). None if no attempt has started. Raises NotFound."""
    ids = {past.attempt: past.attempt_id for past in job.history}
    if job.lease:
        ids[job.attempts] = job.lease.attempt_id
    if number is None:
        return ids[max(ids)] if ids else None
    if number not in ids:
        known = ", ".join(map(str, sorted(ids))) or "none"
        raise NotFound(f"job {handle(job)} has no attempt {number} with kept output", f"attempts: {known}")
    return ids[number]


def finished_attempt(job: Job, attempt_id: str) -> Attempt | None:
    """The finished attempt with this id, or None if it is not in the history."""
    return next((past for past in job.history if past.attempt_id == attempt_id), None)


def output(store: Store, attempt_id: str, after: int = 0) -> Iterator[Chunk]:
    """All stored chunks of an attempt with `n > after`, in order.

    A chunk has one byte or 256 KiB, so the size of the chunks of one read decides how many the next read asks for.
    """
    limit = 1
    while chunks := store.read_output(attempt_id, after, limit):
        yield from chunks
        after = chunks[-1].n
        mean = sum(len(chunk.data) for chunk in chunks) // len(chunks)
        limit = max(1, min(MOST_CHUNKS, READ_BYTES // max(mean, 1)))


def held_by(store: Store, worker: str) -> list[Job]:
    """All jobs that a worker has claimed and whose results are not stored yet."""
    wanted = Filter(states=frozenset(("processing",)), worker=worker)
    return [job for found in pages(store, wanted, 500) for job in found.jobs]


def _queues(
    store: Store, counts: dict[str, dict[State, int]], since: dict[str, datetime] | None = None
) -> list[QueueStatus]:
    settings = {name: QueueSettings.of(entry.value) for name, entry in store.read_table("queues").items()}
    since, default = since or {}, QueueSettings()
    names = sorted({*counts, *settings, *since})
    return [
        QueueStatus(
            name=name,
            paused=settings.get(name, default).paused,
            limit=settings.get(name, default).limit,
            jobs=counts.get(name, {}),
            oldest_due=since.get(name),
        )
        for name in names
    ]
