"""The changes of jobs and queues.

Every change of a job has one pattern: read the job, give it to a pure function of `domain/lifecycle`, save the
result, and start over if another process changed the job meanwhile. A function returns a `Change` for each job; a job
that the rule refuses does not stop the others.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime

from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.event import NOBODY
from queuectl.domain.ids import handle
from queuectl.domain.job import Job, State
from queuectl.domain.names import check_name, is_name
from queuectl.domain.query import Filter, Unreadable
from queuectl.domain.queue import QueueChange, QueueSettings, is_sound
from queuectl.errors import (
    Changed,
    CommandFailed,
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    QueuectlError,
    StoreError,
)
from queuectl.service import maintenance, paging, unreadable
from queuectl.service.changing import (
    TRIES,
    Change,
    Chosen,
    change,
    expecting,
    read,
    refuse_changed,
    refuse_other_entry,
)
from queuectl.service.request.checks import is_text
from queuectl.store.protocol import Entry, Store, Swap

LONGEST_REASON = 10_000


def cancel(
    store: Store, ids: Sequence[str], *, by: str, reason: str | None = None, version: int | None = None
) -> list[Change]:
    """Never start these jobs; workers end those that run. Cancelled jobs stay unchanged."""
    rule = expecting(version, lambda job, now, _: lifecycle.cancel(job, by=by, reason=reason, now=now))
    changes = change(store, ids, rule)
    _unblock_children(store, changes)
    return changes


def retry(store: Store, ids: Sequence[str], *, force: bool = False, alone: bool = False) -> list[Change]:
    """Run dead, cancelled and failed jobs (with `force`, completed ones) once more.

    The jobs wait for their parents again. Children that were cancelled because of these jobs wait for them again, and
    are returned too, marked as revived. With `alone` neither happens.
    """
    return [change for step in retry_in_steps(store, ids, force=force, alone=alone) for change in step]


def retry_in_steps(
    store: Store,
    ids: Sequence[str],
    *,
    force: bool = False,
    alone: bool = False,
    version: int | None = None,
) -> Generator[list[Change]]:
    """Retry some hundreds of jobs at a time. A caller that stops between two steps leaves no child out."""
    if len(ids) <= paging.BATCH:
        return _retry_step(store, ids, force, alone, version)
    return _retry_steps(store, in_steps(ids), force, alone, [])


def retry_chosen(
    store: Store, steps: Iterable[Chosen], again: list[Change], *, force: bool = False, alone: bool = False
) -> Generator[list[Change]]:
    """Retry the jobs that a filter selects, step by step. `again` gets the refused jobs that are tried at the end."""
    return _retry_steps(store, steps, force, alone, again)


def hold(store: Store, ids: Sequence[str], *, version: int | None = None) -> list[Change]:
    """Keep these jobs from starting until they are released."""
    return change(store, ids, expecting(version, lambda job, now, _: lifecycle.hold(job, now=now)))


def release(
    store: Store, ids: Sequence[str], *, anyway: bool = False, version: int | None = None
) -> list[Change]:
    """Release held jobs. They start when due, after their parents ended as wanted; `anyway`: ignore the parents."""
    rule = expecting(
        version, lambda job, now, parents: lifecycle.release(job, parents, now=now, anyway=anyway)
    )
    changes = change(store, ids, rule, with_parents=not anyway)
    return _settled(store, changes)


def edit(
    store: Store,
    ids: Sequence[str],
    *,
    priority: int | None,
    run_at: datetime | None,
    queue: str | None,
    version: int | None = None,
) -> list[Change]:
    """Change the priority, start time or queue of jobs that have not started."""
    if queue is not None:
        known_queue(store, queue)
    rule = expecting(
        version,
        lambda job, now, _: lifecycle.edit(job, priority=priority, run_at=run_at, queue=queue, now=now),
    )
    return change(store, ids, rule)


def delete(store: Store, ids: Sequence[str], *, version: int | None = None) -> list[Change]:
    """Delete ended jobs and unreadable jobs, with their output. Other jobs are refused."""
    jobs, chosen = read(store, ids), isinstance(ids, Chosen)
    # Before the delete: how a parent ended is known only as long as the parent is stored.
    maintenance.unblock_children(store, [id for id, job in jobs.items() if job.ended])
    damaged = [_discarded(store, each) for each in jobs.unreadable.values()]
    refusals = {id: why for id, job in jobs.items() if (why := _keeps(job, version))}
    ended = [job for id, job in jobs.items() if id not in refusals]
    gone = maintenance.delete_ended(store, ended, exactly=chosen or version is not None, tell=NOBODY)
    for job in ended:
        if job.id not in gone:  # another process has retried or deleted the job meanwhile
            refusals[job.id] = Conflict(f"job {handle(job)} is no longer {job.state}")
    changes = (
        Change(id, job, refusals[id]) if id in refusals else Change(id, job, before=job)
        for id, job in jobs.items()
    )
    return [*changes, *damaged]


def purge(store: Store, wanted: Filter) -> int:
    """Delete all ended jobs that match. Returns the number of deleted jobs."""
    return sum(purge_in_steps(store, wanted))


def purge_in_steps(store: Store, wanted: Filter) -> Generator[int]:
    """Delete all ended jobs that match, in steps. Yields the number of deleted jobs for each step."""
    maintenance.unblock_all(store)
    while deleted := store.purge(wanted, paging.BATCH):
        yield len(deleted)


def change_queue(store: Store, queue: str, wanted: QueueChange, version: int | None = None) -> bool:
    """Pause, resume or limit a queue. Returns whether that was a change.

    Raises InvalidInput, and Changed if the queue's entry has another version.
    """
    check_queue_change(queue, wanted)
    known_queue(store, queue)
    for _ in range(TRIES):
        entry = store.read_table("queues").get(queue) or Entry({}, 0)
        refuse_other_entry(f"queue {queue}", entry, version)
        known = QueueSettings.of(entry.value)
        changed = wanted.applied_to(known)
        if changed == known and is_sound(entry.value):
            return False
        if store.swap([Swap("queues", queue, changed.entry, entry.version)])[0]:
            return True
    raise CommandFailed(f"other processes change queue {queue} too fast", "run the same command again")


def check_priority(priority: int | None) -> None:
    """Raise InvalidInput for a priority that is none. A caller from Python may give any value."""
    if priority is not None and not (type(priority) is int and -1000 <= priority <= 1000):
        raise InvalidInput(f"priority: {priority!r} is not a whole number from -1000 to 1000")


def check_queue_change(queue: str, wanted: QueueChange) -> None:
    """Raise InvalidInput for a limit that is out of range, or a reason that is not for a pause."""
    if isinstance(wanted.limit, int) and not 0 < wanted.limit <= 1_000_000:
        raise InvalidInput(
            f"limit {wanted.limit} is out of range",
            f"from 1 to 1000000; to start nothing from it: queuectl queue pause {queue}",
        )
    if isinstance(wanted.reason, str) and wanted.paused is not True:
        raise InvalidInput("a reason belongs to a pause", "pause the queue with the same request")
    if isinstance(wanted.reason, str) and not _is_storable(wanted.reason):
        raise InvalidInput(f"the reason is no text of at most {LONGEST_REASON} characters")


def _is_storable(reason: str) -> bool:
    return len(reason) <= LONGEST_REASON and "\0" not in reason and is_text(reason)


def _retry_steps(
    store: Store, steps: Iterable[Sequence[str]], force: bool, alone: bool, again: list[Change]
) -> Generator[list[Change]]:
    """Retry step by step. A refused job that has parents is tried again at the end.

    A child may be selected some steps before its parent, and is refused until the parent has been retried. These jobs
    are retried at the end, the last one first.
    """
    for step in steps:
        if not step:
            yield []
            continue
        with closing(_retry_step(store, step, force, alone)) as parts:
            for changes in parts:
                children = [each for each in changes if each.refused and each.job and each.job.spec.after]
                again += children
                refused = {each.id for each in children}
                yield [each for each in changes if each.id not in refused]
    for step in in_steps([each.id for each in reversed(again)]):
        with closing(_retry_step(store, step, force, alone)) as parts:
            yield from parts


def _retry_step(
    store: Store, ids: Sequence[str], force: bool, alone: bool, version: int | None = None
) -> Generator[list[Change]]:
    """Retry these jobs, then revive the jobs that were cancelled because of them.

    If the caller stops after the first result, the cancelled jobs are revived anyway. Otherwise they would stay
    cancelled for ever, because a repeated command finds that their parent was already retried.
    """

    def again(job: Job, now: datetime, parents: Mapping[str, State]) -> Job:
        return lifecycle.retry(job, parents, now=now, force=force, alone=alone)

    changes = change(store, ids, expecting(version, again), with_parents=True)
    below = iter(()) if alone else _revive_below(store, [each.id for each in changes if each.changed])
    try:
        yield _settled(store, changes)
        for revived in below:  # noqa: UP028  `yield from` would close `below` when the caller closes this
            yield revived
    finally:
        for _ in below:
            pass


def _revive_below(store: Store, parents: Sequence[str]) -> Iterator[list[Change]]:
    """Revive the jobs that were cancelled because of these parents, then their children, and so on.

    Yields, step by step, the jobs that wait again and the jobs that are refused because their unique key is taken.
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
    """The ids in lists of at most `paging.BATCH`, for one step each."""
    return (ids[start : start + paging.BATCH] for start in range(0, len(ids), paging.BATCH))


_CANCELLED: frozenset[State] = frozenset(("cancelled",))


def _revive(job: Job, now: datetime, parents: Mapping[str, State]) -> Job:
    """Revive a job that is cancelled because of a parent. Any other job stays unchanged."""
    by_parent = job.state == "cancelled" and job.cause == "parent"
    return lifecycle.revive(job, parents, now=now) if by_parent else job


def _settled(store: Store, changes: list[Change]) -> list[Change]:
    """Evaluate the jobs that are now blocked again, because a parent may have ended before the job began to wait."""
    blocked = [change.id for change in changes if change.changed and change.state == "blocked"]
    if not blocked:
        return changes
    ended = [job.id for job in maintenance.unblock(store, blocked) if job.ended]
    maintenance.unblock_children(store, ended)
    fresh = store.get(blocked)
    return [replace(change, job=fresh.get(change.id, change.job)) for change in changes]


def _keeps(job: Job, version: int | None) -> QueuectlError | None:
    """The refusal to delete a job that has another version, or has not ended."""
    try:
        refuse_changed(job, version)
    except Changed as changed:
        return changed
    if job.ended:
        return None
    why = f"job {handle(job)} is {job.state}: only ended jobs can be deleted"
    return Conflict(why, f"queuectl cancel {handle(job)}")


def _discarded(store: Store, each: Unreadable) -> Change:
    gone = unreadable.delete(store, each)
    return Change(
        each.id, None, None if gone else Conflict(f"job {each.number} was repaired or deleted meanwhile")
    )


def _unblock_children(store: Store, changes: Sequence[Change]) -> None:
    ended = [change.id for change in changes if change.changed and change.job and change.job.ended]
    with suppress(StoreError, OutcomeUnknown):  # the change itself is stored; the sweep finds the children
        maintenance.unblock_children(store, ended)


def known_queue(store: Store, queue: str) -> str:
    """Return the name if it is valid for a queue, or if a queue with this name exists. Raises InvalidInput."""
    if is_name(queue) or queue in store.read_table("queues") or queue in store.counts(Filter()).queues:
        return queue
    return check_name("queue", queue)
