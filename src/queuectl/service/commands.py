"""What changes jobs: every command of every front end ends here.

The pattern is one: read the jobs, hand each to a pure function of `domain/lifecycle`, save, and start over for those
that somebody else changed meanwhile. Functions answer what became of each job and raise for what was refused.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta

from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.clock import random_bytes
from queuectl.domain import dependency, lifecycle
from queuectl.domain.ids import check_new_id, handle, make_id
from queuectl.domain.job import Job, Parent, Spec, State
from queuectl.domain.names import check_name, is_name
from queuectl.domain.query import Filter, Page, Unreadable
from queuectl.domain.queue import is_sound
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import (
    CommandFailed,
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    StoreError,
)
from queuectl.service import maintenance, unreadable
from queuectl.service.changing import TRIES, Change, change, read
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

SHARED_SPECS = 256

BATCH = 500
"""Jobs read and saved at once by commands that act on many: no call to the store takes longer than 100 ms."""


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
        self._random_number = int.from_bytes(random_bytes(8)) >> 5

    def job(self, request: JobRequest) -> Job:
        """The job that a request asks for, waiting for all its parents. Raises InvalidInput."""
        spec = self._spec(request)
        return lifecycle.enqueue(
            id=self.next_id() if request.id is None else check_new_id(request.id),
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
        self._random_number += 1
        return make_id(self._now, self._random_number)


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
    waiting = [item.job.id for item in added if item.job.waiting_for]
    if waiting:
        # A parent may have ended between our look and the add, and its worker saw no child then. The jobs are stored:
        # should the store fail only now, every worker's sweep of blocked jobs does the same.
        with suppress(StoreError, OutcomeUnknown):
            maintenance.unblock(store, waiting)
            fresh = store.get(waiting)
            added = [replace(item, job=fresh.get(item.job.id, item.job)) for item in added]
    return added


def refusal(added: Added) -> Conflict | None:
    """The sentence for a job that was not added, if it was not."""
    job = added.job
    if added.status == "conflict":
        return Conflict(
            f"id {job.id} exists with other content",
            f"queuectl show {handle(job)} shows it; choose another id",
        )
    if added.status == "duplicate":
        key = job.spec.unique_key
        return Conflict(
            f"unique key {key!r} is taken by job {handle(job)} ({job.state})", f"queuectl show {handle(job)}"
        )
    return None


def cancel(store: Store, ids: Sequence[str], *, by: str, reason: str | None = None) -> list[Change]:
    """Never to start again; running ones are ended by their worker. Cancelled ones stay as they are."""
    changes = change(store, ids, lambda job, now, _: lifecycle.cancel(job, by=by, reason=reason, now=now))
    _unblock_children(store, changes)
    return changes


def retry(store: Store, ids: Sequence[str], *, force: bool = False, alone: bool = False) -> list[Change]:
    """Run dead, cancelled and failed jobs (with `force`, completed ones) once more.

    They wait for their parents again, and the jobs that were cancelled because of them wait for them again: these
    follow in the answer, marked as revived. With `alone` neither is done.
    """
    return [change for step in retry_in_steps(store, ids, force=force, alone=alone) for change in step]


def retry_in_steps(
    store: Store, ids: Sequence[str], *, force: bool = False, alone: bool = False
) -> Generator[list[Change]]:
    """The same, some hundreds of jobs at a time. Whoever stops in between leaves no child of a retried job behind."""
    if len(ids) <= BATCH:
        return _retry_step(store, ids, force, alone)
    return _retry_steps(store, in_steps(ids), force, alone)


def retry_matching(store: Store, wanted: Filter, *, alone: bool = False) -> Generator[list[Change]]:
    """Retry all jobs that match and had ended when this began, in steps."""
    begun = store.now() + timedelta(microseconds=1)
    return _retry_steps(store, select(store, replace(wanted, ended_before=begun)), False, alone)


def hold(store: Store, ids: Sequence[str]) -> list[Change]:
    """Not to start until released."""
    return change(store, ids, lambda job, now, _: lifecycle.hold(job, now=now))


def release(store: Store, ids: Sequence[str], *, anyway: bool = False) -> list[Change]:
    """Let held jobs start when due, behind their parents; with `anyway` without them."""
    changes = change(
        store,
        ids,
        lambda job, now, parents: lifecycle.release(job, parents, now=now, anyway=anyway),
        with_parents=not anyway,
    )
    return _settled(store, changes)


def edit(
    store: Store, ids: Sequence[str], *, priority: int | None, run_at: datetime | None, queue: str | None
) -> list[Change]:
    """Another priority, start time or queue for jobs that have not started."""
    if queue is not None:
        known_queue(store, queue)
    return change(
        store,
        ids,
        lambda job, now, _: lifecycle.edit(job, priority=priority, run_at=run_at, queue=queue, now=now),
    )


def delete(store: Store, ids: Sequence[str]) -> list[Change]:
    """Delete ended jobs with their output, and unreadable ones. Others are refused."""
    jobs = read(store, ids)
    # Whether they ended as their children wanted can be told only as long as they are there.
    maintenance.unblock_children(store, [id for id, job in jobs.items() if job.ended])
    damaged = [_discarded(store, each) for each in jobs.unreadable.values()]
    return [*(_deleted(store, job) for job in jobs.values()), *damaged]


def purge(store: Store, wanted: Filter) -> int:
    """Delete all ended jobs that match; answers how many."""
    return sum(purge_in_steps(store, wanted))


def purge_in_steps(store: Store, wanted: Filter) -> Iterator[int]:
    """Delete all ended jobs that match, in small batches; answers how many each was."""
    maintenance.unblock_all(store)
    while deleted := store.purge(wanted, BATCH):
        yield len(deleted)


def select(store: Store, wanted: Filter) -> Iterator[list[str]]:
    """The ids of all jobs that match, in batches, the newest first; without those that are added meanwhile."""
    page = Page(limit=BATCH)
    while True:
        found = store.find(wanted, page)
        if found.jobs:
            yield [job.id for job in found.jobs]
        if found.next is None:
            return
        page = replace(page, after=found.next)


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
            f"limit {at_most} is out of range",
            f"from 1 to 1000000; to start nothing from it: queuectl queue pause {queue}",
        )
    return _swap_queue(store, queue, limit=at_most)


def instruct(store: Store, workers: Sequence[Worker], instruction: Instruction) -> None:
    """Ask workers to drain, to stop at once, or to take new code; they learn of it with their next beat."""
    for worker in workers:
        store.instruct(worker.id, instruction)


def set_setting(store: Store, key: str, value: str | None) -> None:
    """Write or (None) remove one shared setting. The value was checked by the caller, together with the others."""
    for _ in range(TRIES):
        entry = store.read_table("settings").get(key)
        body = None if value is None else {"value": value}
        if body is None and entry is None:
            return
        if store.compare_and_swap("settings", key, body, entry.version if entry else 0):
            return
    raise CommandFailed(f"{key} is being changed by others", "run the same command again")


def _retry_steps(
    store: Store, steps: Iterable[Sequence[str]], force: bool, alone: bool
) -> Generator[list[Change]]:
    """A child may be met steps before its parent: what is refused and has parents is tried once more at the end.

    Then from the last to the first: jobs mostly come newest first.
    """
    again: list[str] = []
    for step in steps:
        with closing(_retry_step(store, step, force, alone)) as parts:
            for changes in parts:
                children = [each.id for each in changes if each.refused and each.job and each.job.spec.after]
                again += children
                yield [each for each in changes if each.id not in children]
    again.reverse()
    for step in in_steps(again):
        with closing(_retry_step(store, step, force, alone)) as parts:
            yield from parts


def _retry_step(store: Store, ids: Sequence[str], force: bool, alone: bool) -> Generator[list[Change]]:
    """These jobs, then those that come back with them; if nobody asks for the latter, they come back all the same."""

    def again(job: Job, now: datetime, parents: Mapping[str, State]) -> Job:
        return lifecycle.retry(job, parents, now=now, force=force, alone=alone)

    changes = change(store, ids, again, with_parents=True)
    below = iter(()) if alone else _revive_below(store, [each.id for each in changes if each.changed])
    try:
        yield _settled(store, changes)
        for revived in below:  # noqa: UP028  `yield from` would end it together with this
            yield revived
    finally:
        for _ in below:
            pass


def _revive_below(store: Store, parents: Sequence[str]) -> Iterator[list[Change]]:
    """Bring back the jobs that were cancelled because of these parents, and those that were cancelled because of them.

    Answers those that wait again, and those whose unique key is taken meanwhile, in steps.
    """
    while parents:
        revived: list[str] = []
        children = dict.fromkeys(
            id for step in in_steps(parents) for id in maintenance.waiting_behind(store, step, _CANCELLED)
        )
        for step in in_steps(list(children)):
            changes = change(store, step, _revive, with_parents=True)
            revived += [each.id for each in changes if each.changed]
            yield _settled(
                store, [replace(each, revived=True) for each in changes if each.changed or each.refused]
            )
        parents = revived


def in_steps(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many at a time as are read and saved at once."""
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


_CANCELLED: frozenset[State] = frozenset(("cancelled",))


def _revive(job: Job, now: datetime, parents: Mapping[str, State]) -> Job:
    """A job that was cancelled for another reason, or is so no more, stays as it is."""
    by_parent = job.state == "cancelled" and job.cause == "parent"
    return lifecycle.revive(job, parents, now=now) if by_parent else job


def _settled(store: Store, changes: list[Change]) -> list[Change]:
    """Look again at the jobs that wait now: parents may have ended before they did, and told nobody."""
    blocked = [change.id for change in changes if change.changed and change.state == "blocked"]
    if not blocked:
        return changes
    ended = [job.id for job in maintenance.unblock(store, blocked) if job.ended]
    maintenance.unblock_children(store, ended)
    fresh = store.get(blocked)
    return [replace(change, job=fresh.get(change.id, change.job)) for change in changes]


def _deleted(store: Store, job: Job) -> Change:
    if not job.ended:
        why = f"job {handle(job)} is {job.state}: only ended jobs can be deleted"
        return Change(job.id, job, Conflict(why, f"queuectl cancel {handle(job)}"))
    if store.purge(Filter(id_prefix=job.id, number=job.number), 1):
        return Change(job.id, job, before=job)
    return Change(job.id, job, Conflict(f"job {handle(job)} is no longer {job.state}"))  # retried meanwhile


def _discarded(store: Store, each: Unreadable) -> Change:
    gone = unreadable.delete(store, each)
    return Change(
        each.id, None, None if gone else Conflict(f"job {each.number} was mended or deleted meanwhile")
    )


def _unblock_children(store: Store, changes: Sequence[Change]) -> None:
    ended = [change.id for change in changes if change.changed and change.job and change.job.ended]
    with suppress(StoreError, OutcomeUnknown):  # the change itself is stored; the sweep finds the children
        maintenance.unblock_children(store, ended)


def _refuse_circles(jobs: Sequence[Job]) -> None:
    if not any(job.spec.after for job in jobs):
        return
    for job in jobs:
        if any(parent.job == job.id for parent in job.spec.after):
            raise InvalidInput(f"job {job.id} is its own parent")
    circle = dependency.find_cycle({job.id: [parent.job for parent in job.spec.after] for job in jobs})
    if circle:
        raise InvalidInput(f"the jobs wait for each other: {' → '.join(circle)}")


def _place(store: Store, jobs: Sequence[Job]) -> list[Job]:
    """Each job where it belongs given its parents: blocked, or ready when they have all ended as wanted."""
    own = {job.id for job in jobs}
    parents: list[Parent] = [parent for job in jobs for parent in job.spec.after]
    known = store.get(list({parent.job for parent in parents} - own))
    for each in known.unreadable.values():
        raise unreadable.refusal(each)
    for parent in parents:
        if parent.job not in own and parent.job not in known:
            raise NotFound(
                f"there is no job {parent.job} to wait for", dependency.missing_parent_hint(parent.job)
            )
    states = {id: job.state for id, job in known.items()}
    return [lifecycle.with_parents(job, states) for job in jobs]


def known_queue(store: Store, queue: str) -> str:
    """The name itself, if a queue may have it or one has it already. Raises InvalidInput."""
    if is_name(queue) or queue in store.read_table("queues") or queue in store.counts(Filter()).queues:
        return queue
    return check_name("queue", queue)


def _swap_queue(store: Store, queue: str, **wanted: object) -> bool:
    known_queue(store, queue)
    for _ in range(TRIES):
        entry = store.read_table("queues").get(queue) or Entry({"paused": False, "limit": None}, 0)
        known = entry.value if is_sound(entry.value) else {"paused": True, "limit": None}
        if known == entry.value and all(known.get(key) == value for key, value in wanted.items()):
            return False
        if store.compare_and_swap("queues", queue, {**known, **wanted}, entry.version):
            return True
    raise CommandFailed(f"queue {queue} is being changed by others", "run the same command again")
