"""What looks and changes nothing. Answers may be a moment old; a command re-checks what it depends on."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from queuectl.config import Settings
from queuectl.domain.job import STATES, TERMINAL, Attempt, Job, State
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Found, Page
from queuectl.domain.worker import Worker
from queuectl.errors import InvalidInput, NotFound
from queuectl.store.protocol import Store

MISSED_BEATS = 3
"""A worker counts as lost after so many missed heartbeats."""


class QueueStatus(Struct, frozen=True):
    """One queue with its jobs per state."""

    name: str
    paused: bool
    limit: int | None
    jobs: dict[State, int]


class WorkerStatus(Struct, frozen=True):
    """A worker, and whether it lives: running, draining, paused, or lost."""

    worker: Worker
    state: str


class Status(Struct, frozen=True):
    """The whole system at a glance. `live` and `processing` count the slots of living workers."""

    url: str
    durability: str
    jobs: dict[State, int]
    queues: list[QueueStatus]
    workers: list[WorkerStatus]
    live: int
    processing: int
    now: datetime


def resolve(store: Store, references: Sequence[str]) -> list[str]:
    """The ids that are meant: an id, a number, a unique prefix of an id, or `@last`. Each once, in order.

    Raises NotFound, or InvalidInput for a prefix that several jobs share.
    """
    exact = store.get([ref for ref in references if ref and not ref.startswith("@")])
    return list(dict.fromkeys(ref if ref in exact else _one(store, ref) for ref in references))


def show(store: Store, reference: str) -> Job:
    """The job that is meant."""
    id = resolve(store, [reference])[0]
    job = store.get([id]).get(id)
    if job is None:
        raise NotFound(f"there is no job {id}")
    return job


def jobs(store: Store, wanted: Filter, page: Page) -> Found:
    """One page of the jobs that match."""
    return store.find(wanted, page)


def status(store: Store, settings: Settings) -> Status:
    """Counts, queues and workers."""
    now = store.now()
    counts = store.counts(Filter())
    sums = counts.states()
    alive = workers(store, settings, now)
    living = [item.worker for item in alive if item.state != "lost"]
    busy = sum(1 for worker in living for slot in worker.slots if slot.job)
    said = store.describe()
    return Status(
        url=said.url,
        durability=said.durability,
        jobs={state: sums.get(state, 0) for state in STATES},
        queues=_queues(store, counts.queues),
        workers=alive,
        live=sum(worker.count for worker in living),
        processing=busy,
        now=now,
    )


def queues(store: Store) -> list[QueueStatus]:
    """All queues that have jobs or settings of their own."""
    return _queues(store, store.counts(Filter()).queues)


def workers(store: Store, settings: Settings, now: datetime | None = None) -> list[WorkerStatus]:
    """The registry, each entry with whether the worker lives."""
    now = now or store.now()
    silence = max(settings.heartbeat_interval * MISSED_BEATS, timedelta(seconds=3))
    return [
        WorkerStatus(
            worker, "lost" if worker.heartbeat is None or now - worker.heartbeat > silence else worker.state
        )
        for worker in store.workers()
    ]


def attempt_of(job: Job, number: int | None) -> str | None:
    """The attempt id of the wanted attempt (None: the newest). None when nothing has run yet. Raises NotFound."""
    ids = {past.attempt: past.attempt_id for past in job.history}
    if job.lease:
        ids[job.attempts] = job.lease.attempt_id
    if number is None:
        return ids[max(ids)] if ids else None
    if number not in ids:
        known = ", ".join(map(str, sorted(ids))) or "none"
        raise NotFound(f"job {job.id} has no attempt {number} with kept output", f"attempts: {known}")
    return ids[number]


def past_attempt(job: Job, attempt_id: str) -> Attempt | None:
    """The finished attempt with this id, if it is in the history."""
    return next((past for past in job.history if past.attempt_id == attempt_id), None)


def output(store: Store, attempt_id: str, after: int = 0) -> Iterator[Chunk]:
    """All stored chunks of an attempt with `n > after`, in order."""
    while chunks := store.read_output(attempt_id, after):
        yield from chunks
        after = chunks[-1].n


def wait_for(
    store: Store,
    ids: Sequence[str],
    *,
    timeout: timedelta | None,
    any_one: bool,
    monotonic: Callable[[], float],
) -> dict[str, Job]:
    """The jobs as they are once all (or any) of them have ended, or the time is over. Missing ids have gone."""
    deadline = None if timeout is None else monotonic() + timeout.total_seconds()
    wanted = open_ids = list(dict.fromkeys(ids))
    done: dict[str, Job] = {}
    while True:
        fresh = store.get(open_ids)
        done = {id: job for id, job in done.items() if id not in open_ids} | fresh
        open_ids = [id for id in open_ids if id in fresh and not fresh[id].ended]
        if not open_ids or (any_one and len(open_ids) < len(wanted)):
            return done
        left = 1.0 if deadline is None else deadline - monotonic()
        if left <= 0:
            return done
        store.wait(min(left, 1.0))


def open_ids(store: Store, wanted: Filter) -> list[str]:
    """The ids of all matching jobs that have not ended."""
    living = frozenset(STATES) - TERMINAL
    states = wanted.states & living if wanted.states else living
    found: list[str] = []
    if not states:  # an empty set in a filter means every state, ended ones too
        return found
    page = Page(limit=1000)
    while True:
        piece = store.find(replace(wanted, states=states), page)
        found += [job.id for job in piece.jobs]
        if piece.next is None:
            return found
        page = Page(limit=1000, after=piece.next)


def held_by(store: Store, worker: str) -> list[Job]:
    """All jobs that a worker has claimed and not yet reported on."""
    wanted, page, found = (
        Filter(states=frozenset(("processing",)), worker=worker),
        Page(limit=500),
        list[Job](),
    )
    while True:
        piece = store.find(wanted, page)
        found += piece.jobs
        if piece.next is None:
            return found
        page = replace(page, after=piece.next)


def work_is_left(store: Store, queues: Sequence[str]) -> bool:
    """Whether something runs or waits for a retry in these queues (none named: in all); paused ones do not count."""
    paused = {name for name, entry in store.shared("queues").items() if entry.value.get("paused")}
    return any(
        (counts.get("processing") or counts.get("failed"))
        for name, counts in store.counts(Filter()).queues.items()
        if (not queues or name in queues) and name not in paused
    )


def others_succeed(store: Store, worker: str) -> bool:
    """Whether another worker completed a job within the last minute."""
    recent = store.find(Filter(states=frozenset(("completed",))), Page(limit=50, sort="updated")).jobs
    since = store.now() - timedelta(minutes=1)
    return any(job.history and job.history[-1].worker != worker for job in recent if job.updated_at > since)


def _queues(store: Store, counts: dict[str, dict[State, int]]) -> list[QueueStatus]:
    shared = store.shared("queues")
    names = sorted(set(counts) | set(shared))
    return [
        QueueStatus(
            name=name,
            paused=bool(shared[name].value.get("paused")) if name in shared else False,
            limit=shared[name].value.get("limit") if name in shared else None,
            jobs=counts.get(name, {}),
        )
        for name in names
    ]


def _one(store: Store, reference: str) -> str:
    if reference == "@last":
        found = store.find(Filter(), Page(limit=1)).jobs
        if not found:
            raise NotFound("there is no job yet", "queuectl enqueue 'echo hello' makes one")
        return found[0].id
    if reference.isdecimal() and len(reference) < 18:
        found = store.find(Filter(number=int(reference)), Page(limit=1)).jobs
        if found:
            return found[0].id
    return _by_prefix(store, reference)


def _by_prefix(store: Store, reference: str) -> str:
    found = store.find(Filter(id_prefix=reference), Page(limit=2)).jobs if reference else []
    if not found:
        raise NotFound(f"there is no job {reference!r}", "queuectl list shows the newest ones")
    if len(found) > 1:
        raise InvalidInput(f"{reference!r} begins several ids", "write more of the id, or the job's number")
    return found[0].id
