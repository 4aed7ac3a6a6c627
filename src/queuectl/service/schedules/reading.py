"""Reads schedules: with their next instants and their last job, and the history of their decisions."""

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from msgspec import Struct

from queuectl.domain.job import State
from queuectl.domain.schedule import Decision, Schedule, removed_of, schedule_of
from queuectl.errors import InvalidInput
from queuectl.service.maintenance import PROBE
from queuectl.service.schedules.changing import entry_named, understood
from queuectl.service.schedules.problems import LATE
from queuectl.store.protocol import Entry, Store

_READ = 500
"""Number of jobs that one call reads."""
NEXT = 5
"""Number of next instants that a schedule shows."""


class LastRun(Struct, frozen=True):
    """The newest job that a schedule added for an instant. `state`: None if the job was deleted."""

    instant: datetime
    job: str
    state: State | None


class ScheduleStatus(Struct, frozen=True, kw_only=True):
    """A schedule and what becomes of it.

    notes    what a reader of its rule may not expect; only of a schedule that is shown alone
    next     its next instants; None if nothing will fire: it is paused, or has ended
    due      the moment from which a worker has something to decide; None if there is no such moment
    ended    it has no further instant
    problem  why this host cannot compute the rule
    version  the version of the entry
    """

    schedule: Schedule
    description: str | None
    next: tuple[datetime, ...] | None
    last: LastRun | None
    due: datetime | None
    ended: bool
    notes: tuple[str, ...] = ()
    problem: str | None = None
    version: int = 0

    def late(self, now: datetime) -> bool:
        """Whether it is due for so long that no worker seems to fire it."""
        return self.due is not None and now - self.due > LATE


class Decided(Struct, frozen=True):
    """A decision, and the state of its job now: None if it added no job, or the job was deleted."""

    decision: Decision
    state: State | None


def every(store: Store) -> tuple[list[ScheduleStatus], list[str]]:
    """All schedules by name, and the names of the entries that this program cannot read."""
    known, unreadable = stored(store)
    states = _states(store, [job for schedule, _ in known if (job := _last_job(schedule))])
    return [_status(each, entry, states, None) for each, entry in known], unreadable


def stored(store: Store) -> tuple[list[tuple[Schedule, Entry]], list[str]]:
    """All schedules by name with their entries, and the names of the entries that this program cannot read."""
    known, unreadable = list[tuple[Schedule, Entry]](), list[str]()
    for name, entry in sorted(store.read_table("schedules").items()):
        if name == PROBE or removed_of(entry.value):
            continue
        schedule = None if entry.unreadable else schedule_of(name, entry.value)
        if schedule:
            known.append((schedule, entry))
        else:
            unreadable.append(name)
    return known, unreadable


def one(store: Store, name: str, count: int = NEXT) -> ScheduleStatus:
    """One schedule with its next instants. Raises NotFound."""
    entry = entry_named(store, name)
    schedule = understood(name, entry)
    last = _last_job(schedule)
    return _status(schedule, entry, _states(store, [last] if last else []), store.now(), count)


def history(store: Store, name: str, limit: int) -> list[Decided]:
    """The newest decisions of a schedule, the newest first. Raises NotFound."""
    schedule = understood(name, entry_named(store, name))
    found = [*reversed(schedule.decisions)][:limit]
    states = _states(store, [each.job for each in found if each.job])
    return [Decided(each, states.get(each.job) if each.job else None) for each in found]


def _status(
    schedule: Schedule, entry: Entry, states: dict[str, State], noted: datetime | None, count: int = NEXT
) -> ScheduleStatus:
    """The status. `noted`: also find the notes, for the time after this moment."""
    description, following, notes, problem = None, None, list[str](), None
    try:
        rule = schedule.rule()
        description, following = rule.describe(), _following(schedule, count)
        notes = rule.notes(noted) if noted else []
    except InvalidInput as error:
        problem = error.message
        following = (schedule.next,) if schedule.next and not schedule.paused else None
    return ScheduleStatus(
        schedule=schedule,
        description=description,
        next=following,
        last=_last(schedule, states),
        due=schedule.due,
        ended=schedule.next is None,
        notes=tuple(notes),
        problem=problem,
        version=entry.version,
    )


def _following(schedule: Schedule, count: int) -> tuple[datetime, ...] | None:
    first = schedule.next
    if first is None or schedule.paused:
        return None
    return (first, *islice(schedule.forward(first), count - 1))


def _last(schedule: Schedule, states: dict[str, State]) -> LastRun | None:
    for decision in reversed(schedule.decisions):
        if decision.job:
            return LastRun(decision.instant, decision.job, states.get(decision.job))
    return None


def _last_job(schedule: Schedule) -> str | None:
    return next((each.job for each in reversed(schedule.decisions) if each.job), None)


def _states(store: Store, jobs: Iterable[str]) -> dict[str, State]:
    ids, states = list(dict.fromkeys(jobs)), dict[str, State]()
    for start in range(0, len(ids), _READ):
        states |= {id: job.state for id, job in store.get(ids[start : start + _READ]).items()}
    return states
