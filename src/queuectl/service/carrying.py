"""Carries on operations: takes one step of some hundreds of jobs, and stores how far the operation is.

Workers and servers do this, without a leader. A step has three parts:

1. `swap` marks the entry as taken until a lease ends, so that others leave it alone. Who loses the race does nothing.
2. The jobs after the cursor are read, and changed by the same rules as those of a command.
3. `swap` stores the new cursor and the counts. The entry is due again at once, for anybody.

A process that dies between two parts is replaced when the lease has ended. The step is then done once more from the
same cursor: jobs that were changed do not match any more, or the rule leaves them as they are. So nothing is changed
twice. Only the counts miss the changes of the dead process, at most one step.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.domain.event import Actor
from queuectl.domain.ids import handle
from queuectl.domain.instant import parse_instant
from queuectl.domain.job import STATES, TERMINAL, Job, State
from queuectl.domain.operation import (
    Cancel,
    Edit,
    OperationStatus,
    RefusedJob,
    Release,
    Retry,
    Tally,
    entry_of,
    operation_of,
)
from queuectl.errors import CommandFailed, Forbidden, InvalidInput
from queuectl.service import commands, maintenance, matching
from queuectl.service.changing import TRIES, Change, Chosen
from queuectl.service.operations import arguments_of, selected_by
from queuectl.service.telling import acting
from queuectl.store.protocol import Entry, Store, Swap

LEASE = timedelta(seconds=10)
"""After this time another process takes the step of one that does not answer."""
LIVING = frozenset(STATES) - TERMINAL
CANCELLED: frozenset[State] = frozenset(("cancelled",))


class Step(Struct, frozen=True):
    """What one step did. `cursor`: all jobs up to this number are done."""

    tally: Tally
    cursor: int
    is_complete: bool


def carry(store: Store, id: str, entry: Entry) -> OperationStatus | None:
    """Take one step of the operation in this entry, or delete the entry of one that ended long ago.

    Returns the operation as it is then; None if this program does not understand it, or if its entry is gone. A step
    that lost too many races is taken once more when its lease has ended.
    """
    status = operation_of(id, entry.value)
    if status is None:
        return None
    if not status.is_running:
        store.swap([Swap("operations", id, None, entry.version)])
        return status
    taken = _take(store, status, entry.version)
    if taken is None:
        return status
    try:
        step = _step(store, taken[0])
    except InvalidInput:  # a filter of a newer program
        return None
    except CommandFailed:  # too many lost races
        return taken[0]
    return _record(store, *taken, step)


def carry_if_due(store: Store, id: str) -> OperationStatus | None:
    """Take one step of this operation, unless it has ended or another process carries it. None as for `carry`."""
    entry = store.read_table("operations", [id]).get(id)
    status = operation_of(id, entry.value) if entry else None
    if entry is None or status is None:
        return None
    is_due = status.is_running and not status.is_carried(store.now())
    return carry(store, id, entry) if is_due else status


def _take(store: Store, status: OperationStatus, version: int) -> tuple[OperationStatus, int] | None:
    """Mark the operation as carried by this process. Returns it with its new version; None if the race is lost."""
    until = store.now() + LEASE
    taken = replace(status, carried_until=until)
    if not store.swap([Swap("operations", status.id, entry_of(taken), version, due=until)])[0]:
        return None
    entry = store.read_table("operations", [status.id]).get(status.id)
    found = operation_of(status.id, entry.value) if entry else None
    return (found, entry.version) if entry and found and found.is_running else None


def _step(store: Store, status: OperationStatus) -> Step:
    where, also = selected_by(status)
    high = min(status.bound, where.numbers[1])
    part = replace(where, numbers=(max(where.numbers[0], status.cursor + 1), high), limit=status.left)
    jobs, last = next(matching.walk(store, part, also), ([], high))
    changes = _changes(store, status, Chosen(jobs, where)) if jobs else ()
    crashpoint.reach("after_step")
    return Step(_tally(status, len(jobs), changes), last, last >= high or status.left == len(jobs))


def _record(store: Store, status: OperationStatus, version: int, step: Step) -> OperationStatus | None:
    """Store the result of a step. It is dropped if another process has taken the same step meanwhile."""
    before = status
    for _ in range(TRIES):
        now = store.now()
        after = status.after_step(step.tally, step.cursor, now, is_complete=step.is_complete)
        due = after.forgotten_at or now
        if store.swap([Swap("operations", status.id, entry_of(after), version, due=due)])[0]:
            return after
        entry = store.read_table("operations", [status.id]).get(status.id)
        found = operation_of(status.id, entry.value) if entry else None
        if entry is None or found is None or (found.cursor, found.tally) != (before.cursor, before.tally):
            return found
        status, version = found, entry.version
    return status


def _tally(status: OperationStatus, selected: int, changes: Sequence[Change]) -> Tally:
    """The counts of a step. A job that ended before it could be cancelled is as wanted, and not refused."""

    def is_met(change: Change) -> bool:
        return status.request.verb == "cancel" and change.job is not None and change.job.ended

    refused = [
        RefusedJob(each.id, each.refused.message) for each in changes if each.refused and not is_met(each)
    ]
    changed = sum(each.changed for each in changes)
    unchanged = len(changes) - changed - len(refused)
    return Tally(selected, len(changes), changed, unchanged, tuple(refused), len(refused)).plus(Tally())


def _changes(store: Store, status: OperationStatus, ids: Chosen) -> list[Change]:
    """Change the jobs of a step, in the name of the person who began the operation."""
    store = acting(store, Actor(status.by))
    args, request = arguments_of(status.request.verb, status.request.args), status.request
    if isinstance(args, Cancel):
        return _within(
            store,
            status,
            ids,
            LIVING,
            lambda ids: commands.cancel(store, ids, by=status.by, reason=args.reason),
        )
    if isinstance(args, Retry):
        force, alone = args.force, args.alone
        states: frozenset[State] = frozenset() if alone else CANCELLED
        return _within(
            store, status, ids, states, lambda ids: commands.retry(store, ids, force=force, alone=alone)
        )
    if isinstance(args, Release):
        return commands.release(store, ids, anyway=args.anyway)
    if isinstance(args, Edit):
        run_at = None if args.run_at is None else parse_instant(args.run_at)
        return commands.edit(store, ids, priority=args.priority, run_at=run_at, queue=args.queue)
    return commands.hold(store, ids) if request.verb == "hold" else commands.delete(store, ids)


def _within(
    store: Store,
    status: OperationStatus,
    ids: Chosen,
    states: frozenset[State],
    act: Callable[[Chosen], list[Change]],
) -> list[Change]:
    """Change the jobs, without those for which a job of another queue waits, if the request has `queues`."""
    queues = status.request.queues
    if queues is None or not states or not _is_outside(store, ids, states, queues):
        return act(ids)
    outside = {id for id in ids if _is_outside(store, [id], states, queues)}
    allowed = Chosen([job for id, job in ids.jobs.items() if id not in outside], ids.where)
    refused = [Change(id, job, _forbidden(job)) for id, job in ids.jobs.items() if id in outside]
    return [*(act(allowed) if allowed else ()), *refused]


def _is_outside(store: Store, ids: Sequence[str], states: frozenset[State], queues: Sequence[str]) -> bool:
    """Whether a job in another queue waits for one of these jobs, directly or through other jobs."""
    seen = set(ids)
    while ids:
        below = list[str]()
        for part in commands.in_steps(ids):
            below += [id for id in maintenance.waiting_behind(store, part, states) if id not in seen]
        for part in commands.in_steps(below):
            found = store.get(part)
            if found.unreadable or any(job.queue not in queues for job in found.values()):
                return True
        seen.update(below)
        ids = below
    return False


def _forbidden(job: Job) -> Forbidden:
    return Forbidden(f"a job of another queue waits for job {handle(job)}")
