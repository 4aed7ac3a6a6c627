"""What changes jobs: every command of every front end ends here.

The pattern is one: read the jobs, hand each to a pure function of `domain/lifecycle`, save, and start over for those
that somebody else changed meanwhile. Functions answer what became of each job and raise for what was refused.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.clock import random_bytes
from queuectl.domain import dependency, lifecycle
from queuectl.domain.ids import check_id, make_id
from queuectl.domain.job import Job, Parent, Spec
from queuectl.domain.names import check_name, is_name
from queuectl.domain.query import Filter, Page
from queuectl.domain.worker import Request, Worker
from queuectl.errors import (
    CommandFailed,
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    QueuectlError,
    StoreError,
)
from queuectl.service import maintenance
from queuectl.service.request import (
    Defaults,
    JobRequest,
    command_of,
    content_of,
    policy_key,
    spec_of,
    start_of,
)
from queuectl.store.protocol import Added, Entry, Store

TRIES = 20
"""How often a change starts over when others are faster. Each round somebody made progress."""

SHARED_SPECS = 256

BATCH = 1000
"""Jobs read and saved at once by commands that act on many."""


class Change(Struct, frozen=True):
    """What a command did to one job: the job as it is now, or the refusal."""

    id: str
    job: Job | None = None
    refused: QueuectlError | None = None


class Enqueuer:
    """Makes jobs from requests, completed with the same defaults and read at the same moment.

    `queue` is where jobs go whose request names none.
    """

    def __init__(self, defaults: Defaults, now: datetime, queue: str = "default") -> None:
        self._defaults = defaults
        self._now = now
        self._queue = queue
        self._shared: dict[bytes, Spec] = {}
        # Ids of one batch follow one another, so that their order is that of the batch even within a millisecond.
        self._chance = int.from_bytes(random_bytes(8)) >> 5

    def job(self, request: JobRequest) -> Job:
        """The job that a request asks for, waiting for all its parents. Raises InvalidInput."""
        spec = self._spec(request)
        return lifecycle.enqueue(
            id=self.next_id() if request.id is None else check_id(request.id),
            spec=spec,
            queue=self._queue if request.queue is None else check_name("queue", request.queue),
            priority=request.priority or 0,
            run_at=start_of(request, self._now),
            waiting_for=tuple(dict.fromkeys(parent.job for parent in spec.after)),
            hold=bool(request.hold),
            now=self._now,
        )

    def _spec(self, request: JobRequest) -> Spec:
        """Many jobs differ in nothing but their command: what they share is worked out once."""
        key = policy_key(request) if request.stdin is None else None
        if key is None:
            return spec_of(request, self._defaults)
        shared = self._shared.get(key)
        if shared is None:
            if len(self._shared) >= SHARED_SPECS:
                self._shared.clear()
            return self._shared.setdefault(key, spec_of(request, self._defaults))
        command, argv = command_of(request)
        return replace(shared, command=command, argv=argv, content=content_of(request, self._defaults.cwd))

    def next_id(self) -> str:
        """A new id, after all that this enqueuer gave before."""
        self._chance += 1
        return make_id(self._now, self._chance)


def enqueue(store: Store, jobs: Sequence[Job]) -> list[Added]:
    """Add new jobs: those whose parents have all ended as wanted start at once, the others wait.

    Answers in order what became of each; look at every `status`. Raises NotFound for an unknown parent and
    InvalidInput for a circle; then nothing was added.
    """
    _refuse_circles(jobs)
    placed = _place(store, jobs) if any(job.spec.after for job in jobs) else list(jobs)
    crashpoint.reach("before_add")
    added = store.add(placed)
    crashpoint.reach("after_add")
    blocked = [item.job.id for item in added if item.job.state == "blocked"]
    if blocked:
        # A parent may have ended between our look and the add, and its worker saw no child then. The jobs are stored:
        # should the store fail only now, every worker's sweep of blocked jobs does the same.
        with suppress(StoreError, OutcomeUnknown):
            maintenance.unblock(store, blocked)
            fresh = store.get(blocked)
            added = [replace(item, job=fresh.get(item.job.id, item.job)) for item in added]
    return added


def refusal(added: Added) -> Conflict | None:
    """The sentence for a job that was not added, if it was not."""
    job = added.job
    if added.status == "conflict":
        return Conflict(
            f"id {job.id} exists with other content", f"queuectl show {job.id} shows it; choose another id"
        )
    if added.status == "duplicate":
        key = job.spec.unique_key
        return Conflict(
            f"unique key {key!r} is taken by job {job.id} ({job.state})", f"queuectl show {job.id}"
        )
    return None


def cancel(store: Store, ids: Sequence[str], *, by: str, reason: str | None = None) -> list[Change]:
    """Never to start again; running ones are ended by their worker. Cancelled ones stay as they are."""
    changes = change(store, ids, lambda job, now: lifecycle.cancel(job, by=by, reason=reason, now=now))
    _unblock_children(store, changes)
    return changes


def retry(store: Store, ids: Sequence[str], *, force: bool = False) -> list[Change]:
    """Run dead, cancelled and failed jobs (with `force`, completed ones) once more, at once."""
    return change(store, ids, lambda job, now: lifecycle.retry(job, now=now, force=force))


def hold(store: Store, ids: Sequence[str]) -> list[Change]:
    """Not to start until released."""
    return change(store, ids, lambda job, now: lifecycle.hold(job, now=now))


def release(store: Store, ids: Sequence[str]) -> list[Change]:
    """Let held jobs start when due."""
    changes = change(store, ids, lambda job, now: lifecycle.release(job, now=now))
    blocked = [change.id for change in changes if change.job and change.job.state == "blocked"]
    if not blocked:
        return changes
    # Parents may have ended while it was held, and nobody told it then.
    ended = [job.id for job in maintenance.unblock(store, blocked) if job.ended]
    maintenance.unblock_children(store, ended)
    fresh = store.get(blocked)
    return [replace(change, job=fresh.get(change.id, change.job)) for change in changes]


def edit(
    store: Store, ids: Sequence[str], *, priority: int | None, run_at: datetime | None, queue: str | None
) -> list[Change]:
    """Another priority, start time or queue for pending jobs."""
    if queue is not None:
        known_queue(store, queue)
    return change(
        store,
        ids,
        lambda job, now: lifecycle.edit(job, priority=priority, run_at=run_at, queue=queue, now=now),
    )


def delete(store: Store, ids: Sequence[str]) -> list[Change]:
    """Delete ended jobs with their output. Others are refused."""
    changes = []
    for id, job in _read(store, ids).items():
        if not job.ended:
            why = Conflict(
                f"job {id} is {job.state}: only ended jobs can be deleted", f"queuectl cancel {id}"
            )
            changes.append(Change(id, job, why))
            continue
        maintenance.unblock_children(store, [id])
        gone = store.purge(Filter(id_prefix=id, number=job.number), 1)
        # Not gone: somebody retried it meanwhile.
        changes.append(Change(id, job, None if gone else Conflict(f"job {id} is no longer {job.state}")))
    return changes


def purge(store: Store, wanted: Filter) -> int:
    """Delete all ended jobs that match, in small batches; answers how many."""
    count = 0
    while deleted := store.purge(wanted, BATCH):
        count += len(deleted)
    return count


def select(store: Store, wanted: Filter) -> Iterable[list[str]]:
    """The ids of all jobs that match, in batches."""
    page = Page(limit=BATCH)
    while True:
        found = store.find(wanted, page)
        if found.jobs:
            yield [job.id for job in found.jobs]
        if found.next is None:
            return
        page = replace(page, after=found.next)


def change(store: Store, ids: Sequence[str], rule: Callable[[Job, datetime], Job]) -> list[Change]:
    """Apply a rule to each job by compare-and-swap. A job for which the rule raises is refused, the others go on."""
    done: dict[str, Change] = {}
    jobs = _read(store, ids)
    for _ in range(TRIES):
        wanted = _apply(jobs, rule, store.now(), done)
        answers = store.save(wanted) if wanted else []
        for job, answer in zip(wanted, answers, strict=True):
            if answer == "accepted":
                done[job.id] = Change(job.id, replace(job, version=job.version + 1))
            elif answer == "taken":
                done[job.id] = Change(job.id, jobs[job.id], _taken(job))
        stale = [id for id in jobs if id not in done]
        if not stale:
            return [done[id] for id in dict.fromkeys(ids)]
        jobs = store.get(stale)
        done |= {id: Change(id, None, _gone(id)) for id in stale if id not in jobs}
    raise CommandFailed("the jobs are being changed too fast by others", "run the same command again")


def pause(store: Store, queue: str) -> bool:
    """Start nothing from this queue any more; what runs goes on. False if it was paused already."""
    return _swap_queue(store, queue, paused=True)


def resume(store: Store, queue: str) -> bool:
    """Start jobs from this queue again. False if it was not paused."""
    return _swap_queue(store, queue, paused=False)


def limit(store: Store, queue: str, at_most: int | None) -> bool:
    """Run at most so many jobs of this queue at once, over all workers; None lifts the limit."""
    if at_most is not None and not 0 < at_most <= 1_000_000:
        raise InvalidInput(
            f"limit {at_most} is out of range", "from 1 to 1000000; to stop a queue: queuectl queue pause"
        )
    return _swap_queue(store, queue, limit=at_most)


def ask(store: Store, workers: Sequence[Worker], request: Request) -> None:
    """Ask workers to drain, to stop at once, or to take new code; they learn of it with their next beat."""
    for worker in workers:
        store.ask(worker.id, request)


def set_setting(store: Store, key: str, value: str | None) -> None:
    """Write or (None) remove one shared setting. The value was checked by the caller, together with the others."""
    for _ in range(TRIES):
        entry = store.shared("settings").get(key)
        body = None if value is None else {"value": value}
        if body is None and entry is None:
            return
        if store.swap("settings", key, body, entry.version if entry else 0):
            return
    raise CommandFailed(f"{key} is being changed by others", "run the same command again")


def _apply(
    jobs: dict[str, Job], rule: Callable[[Job, datetime], Job], now: datetime, done: dict[str, Change]
) -> list[Job]:
    wanted = []
    for id, job in jobs.items():
        try:
            after = rule(job, now)
        except Conflict as refused:
            done[id] = Change(id, job, refused)
            continue
        if after is job:
            done[id] = Change(id, job)
        else:
            wanted.append(after)
    return wanted


def _read(store: Store, ids: Sequence[str]) -> dict[str, Job]:
    jobs = store.get(ids)
    for id in ids:
        if id not in jobs:
            raise _gone(id)
    return {id: jobs[id] for id in ids}


def _gone(id: str) -> NotFound:
    return NotFound(f"there is no job {id}")


def _taken(job: Job) -> Conflict:
    key = job.spec.unique_key
    return Conflict(f"unique key {key!r} of job {job.id} is taken by a job that has not ended")


def _unblock_children(store: Store, changes: Sequence[Change]) -> None:
    ended = [change.id for change in changes if change.job and change.job.ended and not change.refused]
    with suppress(StoreError, OutcomeUnknown):  # the change itself is stored; the sweep finds the children
        maintenance.unblock_children(store, ended)


def _refuse_circles(jobs: Sequence[Job]) -> None:
    if not any(job.spec.after for job in jobs):
        return
    for job in jobs:
        if any(parent.job == job.id for parent in job.spec.after):
            raise InvalidInput(f"job {job.id} is its own parent")
    circle = dependency.circle({job.id: [parent.job for parent in job.spec.after] for job in jobs})
    if circle:
        raise InvalidInput(f"the jobs wait for each other: {' → '.join(circle)}")


def _place(store: Store, jobs: Sequence[Job]) -> list[Job]:
    """Each job where it belongs given its parents: blocked, or ready when they have all ended as wanted."""
    own = {job.id for job in jobs}
    parents: list[Parent] = [parent for job in jobs for parent in job.spec.after]
    known = store.get(list({parent.job for parent in parents} - own))
    for parent in parents:
        if parent.job not in own and parent.job not in known:
            raise NotFound(f"there is no job {parent.job} to wait for", "enqueue the parent first")
    states = {id: job.state for id, job in known.items()}
    return [lifecycle.place(job, states) for job in jobs]


def known_queue(store: Store, queue: str) -> str:
    """The name itself, if a queue may have it or one has it already. Raises InvalidInput."""
    if is_name(queue) or queue in store.shared("queues") or queue in store.counts(Filter()).queues:
        return queue
    return check_name("queue", queue)


def _swap_queue(store: Store, queue: str, **wanted: object) -> bool:
    known_queue(store, queue)
    for _ in range(TRIES):
        entry = store.shared("queues").get(queue) or Entry({"paused": False, "limit": None}, 0)
        if all(entry.value.get(key) == value for key, value in wanted.items()):
            return False
        if store.swap("queues", queue, {**entry.value, **wanted}, entry.version):
            return True
    raise CommandFailed(f"queue {queue} is being changed by others", "run the same command again")
