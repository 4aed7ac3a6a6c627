"""Fires schedules: decides the entries that are due, and adds their jobs in the same step in which it stores the entry.

Every worker does this, without a leader. `swap` accepts one of several decisions about one version of an entry, and
the others add no job. A worker that dies before the swap has changed nothing, except that replaced jobs may have been
cancelled: the next worker decides the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from msgspec import Struct

from queuectl import crashpoint
from queuectl.config import Settings
from queuectl.domain import firing, lifecycle
from queuectl.domain.event import Event, between
from queuectl.domain.firing import Plan
from queuectl.domain.job import Job
from queuectl.domain.query import Jobs
from queuectl.domain.schedule import Decision, Schedule, entry_of, removed_of, schedule_of
from queuectl.errors import InvalidInput
from queuectl.service import maintenance
from queuectl.service.archive_outage import get_reachable
from queuectl.service.changing import change
from queuectl.service.schedules.template import Maker, shared_settings
from queuectl.store.protocol import ADDING_AT_MOST, ADDING_BYTES, Store, Swap, Upcoming

JOBS = 500
"""Number of jobs after which a step stores what it has decided, so that no call of the store takes long."""
INSTANTS = 10_000
"""Number of decided instants after which a step ends. After a long outage a schedule may have missed so many, and their
computation takes about 0.2 s: the other duties of a worker, such as the renewal of leases, must not wait for all.
"""


class Fired(Struct, frozen=True):
    """What a step did. `left_alone`: entries that this program or this host cannot decide."""

    decisions: list[tuple[str, Decision]]
    jobs: int
    left_alone: list[Upcoming]


class Made(Struct, frozen=True):
    """The new entry of a schedule and its jobs, not stored yet."""

    found: Upcoming
    plan: Plan
    jobs: tuple[Job, ...]


def fire(store: Store, found: Sequence[Upcoming]) -> Fired:
    """Decide these entries of schedules, as far as they are due, or some of them: call it again while some are due."""
    _forget_removed(store, [each for each in found if removed_of(each.entry.value)])
    step = _Step(store, [each for each in found if not removed_of(each.entry.value)])
    decisions, jobs = list[tuple[str, Decision]](), 0
    for batch in _batches(step.made()):
        for made in _store(store, batch):
            decisions += [(made.found.key, decision) for decision in made.plan.decisions]
            jobs += len(made.jobs)
    return Fired(decisions, jobs, step.left_alone)


def _forget_removed(store: Store, found: Sequence[Upcoming]) -> None:
    """Delete entries of schedules that were removed long ago."""
    if found:
        store.swap([Swap("schedules", each.key, None, each.entry.version) for each in found])


def unended_jobs(store: Store, schedules: Sequence[Schedule]) -> Jobs:
    """Those jobs of these schedules that have not ended. A damaged job never runs, so it does not count.

    While an archive of ended jobs cannot be reached, a job that only the archive can have has ended.
    """
    ids = list(dict.fromkeys(id for each in schedules for id in each.open))
    steps = [ids[start : start + maintenance.STEP] for start in range(0, len(ids), maintenance.STEP)]
    found = [job for step in steps for job in get_reachable(store, step).values()]
    return Jobs(job for job in found if job and not job.ended)


def replace_jobs(store: Store, schedule: str, ids: Sequence[str]) -> None:
    """Cancel the jobs that the next job of their schedule replaces. A job that has ended stays as it is."""

    def rule(job: Job, now: datetime, _: Mapping[str, object]) -> Job:
        if job.ended or job.cancel_requested:
            return job
        return lifecycle.cancel(job, by=f"schedule {schedule}", reason=None, now=now, cause="overlap")

    known = [job.id for job in get_reachable(store, ids).values() if job and not job.ended]
    if known:
        change(store, known, rule)
    crashpoint.reach("after_replace")


def at_once(size: int) -> int:
    """The number of jobs of this size that one swap may add."""
    return max(1, min(ADDING_AT_MOST, ADDING_BYTES // max(1, size)))


class _Step:
    """The entries of one step, and what they need: their open jobs, and the shared settings."""

    def __init__(self, store: Store, found: Sequence[Upcoming]) -> None:
        self._store, self._now = store, store.now()
        self._known = [(each, schedule_of(each.key, each.entry.value)) for each in found]
        self._unended = unended_jobs(store, [schedule for _, schedule in self._known if schedule])
        self.left_alone: list[Upcoming] = []

    @cached_property
    def _settings(self) -> Settings:
        return shared_settings(self._store)

    def made(self) -> Iterator[Made]:
        """The decided entries, with their jobs."""
        instants = 0
        for each, schedule in self._known:
            if instants >= INSTANTS:
                return
            try:
                made = self._made(each, schedule) if schedule else None
            except InvalidInput:  # the rule is of a newer program, or this host does not know the time zone
                made = None
            if made is None or made.plan.entry == schedule:
                self.left_alone.append(each)
            else:
                yield made
                instants += sum(decision.count for decision in made.plan.decisions)

    def _made(self, found: Upcoming, schedule: Schedule) -> Made:
        try:
            maker = Maker(schedule.name, schedule.job, self._settings, self._now)
        except InvalidInput as error:
            plan = firing.plan(schedule, self._now, self._unended)
            return Made(found, plan.refused(f"job: {error.message}"), ())
        plan = firing.plan(schedule, self._now, self._unended, at_once(maker.size))
        return Made(found, plan, jobs_of(maker, plan, self._unended))


def jobs_of(maker: Maker, plan: Plan, unended: Jobs) -> tuple[Job, ...]:
    """The jobs of a plan. Jobs of the same plan have not ended, so a job that comes after one of them waits."""
    states = {id: job.state for id, job in unended.items()}
    return tuple(maker.job(planned, states) for planned in plan.jobs)


def _batches(made: Iterator[Made]) -> Iterator[list[Made]]:
    batch, jobs = list[Made](), 0
    for each in made:
        batch.append(each)
        jobs += len(each.jobs)
        if jobs >= JOBS:
            yield batch
            batch, jobs = [], 0
    if batch:
        yield batch


def _store(store: Store, batch: Sequence[Made]) -> list[Made]:
    """Store these decisions. Returns those that no other program has overtaken."""
    for each in batch:
        if each.plan.replaced:
            replace_jobs(store, each.found.key, each.plan.replaced)
    crashpoint.reach("before_fire")
    stored = store.swap([_swap(each) for each in batch])
    crashpoint.reach("after_fire")
    accepted = [each for each, done in zip(batch, stored, strict=True) if done]
    unblock(store, [job for each in accepted for job in each.jobs])
    return accepted


def unblock(store: Store, jobs: Sequence[Job]) -> None:
    """Look again at new jobs that wait. A job before them may have ended after its state was read, and before they
    were stored: nobody unblocks them then.
    """
    if waiting := [job.id for job in jobs if job.waiting_for]:
        maintenance.unblock(store, waiting)


def _swap(made: Made) -> Swap:
    found, entry = made.found, made.plan.entry
    told = events_of(made.jobs)
    return Swap("schedules", found.key, entry_of(entry), found.entry.version, entry.due, made.jobs, told)


def events_of(jobs: Sequence[Job]) -> tuple[Event | None, ...]:
    """The events of new jobs."""
    return tuple(between(None, job) for job in jobs)
