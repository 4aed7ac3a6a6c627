"""Changes jobs: reads them, applies a pure function, saves by compare-and-swap, and repeats this after a lost race."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from queuectl.domain import dependency
from queuectl.domain.event import between
from queuectl.domain.ids import handle
from queuectl.domain.job import STATES, TERMINAL, Job, State
from queuectl.domain.query import Filter, Jobs, Page
from queuectl.domain.where import Where
from queuectl.errors import Changed, CommandFailed, Conflict, NotFound, QueuectlError
from queuectl.service import maintenance, unreadable
from queuectl.store.protocol import Entry, Store

TRIES = 20
"""How often a change is repeated after lost races. In each round at least one other process made progress."""


class Change(Struct, frozen=True):
    """What a command did to one job.

    job      the job as stored now
    refused  why the job was not changed, if the rule refused the change
    before   the job before the change, if it was changed
    revived  the job was not named: it waits again because its parent was retried
    """

    id: str
    job: Job | None = None
    refused: QueuectlError | None = None
    before: Job | None = None
    revived: bool = False

    @property
    def changed(self) -> bool:
        """Whether the command changed the job."""
        return self.before is not None

    @property
    def state(self) -> State | None:
        """The state of the job now."""
        return self.job.state if self.job else None


class Chosen(list[str]):
    """The ids of jobs that a filter selected, with the jobs as they were read, which saves to read them again.

    A job that changed since then and does not match any more, or was deleted, is left out.
    """

    def __init__(self, jobs: Sequence[Job], where: Where) -> None:
        super().__init__(job.id for job in jobs)
        self.jobs, self.where = Jobs(jobs), where


Rule = Callable[[Job, datetime, Mapping[str, State]], Job]
"""A function from a job, the time, and the states of its existing parents to the changed job. May raise Conflict."""


def expecting(version: int | None, rule: Rule) -> Rule:
    """The rule for a job that has this version (None: any version).

    The check is part of the rule, so it is repeated if another process changes the job before the save.
    """
    if version is None:
        return rule

    def checked(job: Job, now: datetime, parents: Mapping[str, State]) -> Job:
        refuse_changed(job, version)
        return rule(job, now, parents)

    return checked


def refuse_changed(job: Job, version: int | None) -> None:
    """Raise Changed if the job has another version."""
    if version is not None and job.version != version:
        raise Changed(
            f"job {handle(job)} has version {job.version}, not {version}", "read the job, and decide again"
        )


def refuse_other_entry(name: str, entry: Entry | None, version: int | None) -> None:
    """Raise Changed if an entry of a shared table has another version. An absent entry has version 0."""
    found = entry.version if entry else 0
    if version is not None and found != version:
        raise Changed(f"{name} has version {found}, not {version}", "read it again, and decide again")


def change(store: Store, ids: Sequence[str], rule: Rule, *, with_parents: bool = False) -> list[Change]:
    """Apply a rule to each job by compare-and-swap. A job for which the rule raises is refused; the others are changed.

    With `with_parents` the rule gets the states of the parents. Parents that are changed in the same call come first,
    and their children see the new states.
    """
    chosen = ids if isinstance(ids, Chosen) else None
    jobs: dict[str, Job] = (got := read(store, ids))
    done = {id: Change(id, None, unreadable.refusal(each)) for id, each in got.unreadable.items()}
    holders: dict[str | None, Job | None] = {}
    left_out = set[str]()
    for _ in range(TRIES):
        parents = maintenance.parent_states(store, jobs.values()) if with_parents else {}
        wanted = _apply(jobs, rule, store.now(), parents, done)
        events = [between(jobs[job.id], job) for job in wanted]
        answers = store.save(wanted, events) if wanted else []
        for job, answer in zip(wanted, answers, strict=True):
            if answer.job is not None:
                done[job.id] = Change(job.id, answer.job, before=jobs[job.id])
            elif answer.status == "duplicate":
                done[job.id] = Change(job.id, jobs[job.id], _taken(store, job, holders))
        stale = [id for id in jobs if id not in done]
        if not stale:
            return [done[id] for id in dict.fromkeys(ids) if id not in left_out]
        jobs = got = store.get(stale)
        if chosen is not None:
            left_out |= {id for id in stale if id not in jobs or not chosen.where.matches(jobs[id])}
            jobs = {id: job for id, job in jobs.items() if id not in left_out}
        done |= {id: Change(id, None, _gone(id)) for id in stale if id not in jobs and id not in left_out}
        done |= {id: Change(id, None, unreadable.refusal(each)) for id, each in got.unreadable.items()}
    raise CommandFailed("other processes change the jobs too fast", "run the same command again")


def _apply(
    jobs: dict[str, Job], rule: Rule, now: datetime, parents: dict[str, State], done: dict[str, Change]
) -> list[Job]:
    wanted = []
    for job in dependency.parents_first(list(jobs.values())) if parents else jobs.values():
        try:
            after = rule(job, now, parents)
        except Conflict as refused:
            done[job.id] = Change(job.id, job, refused)
            continue
        if after is job:
            done[job.id] = Change(job.id, job)
        else:
            parents[job.id] = after.state
            wanted.append(after)
    return wanted


def read(store: Store, ids: Sequence[str]) -> Jobs:
    """The jobs with these ids, in order. Raises NotFound for the first id that no job has."""
    if isinstance(ids, Chosen):
        return ids.jobs
    got = store.get(ids)
    damaged = unreadable.among(store, ids, got)
    for id in ids:
        if id not in got and id not in damaged:
            raise _gone(id)
    return Jobs((got[id] for id in ids if id in got), damaged.values())


def _gone(id: str) -> NotFound:
    return NotFound(f"there is no job {id}")


def _taken(store: Store, job: Job, holders: dict[str | None, Job | None]) -> Conflict:
    """The refusal of a job whose unique key another job has. `holders` caches the job that has each key."""
    key = job.spec.unique_key
    if key not in holders:
        found = store.find(Filter(unique_key=key, states=_LIVING), Page(limit=1)).jobs
        holders[key] = found[0] if found else None
    holder = holders[key]
    who = "another job" if holder is None else f"job {handle(holder)} ({holder.state})"
    return Conflict(f"unique key {key!r} of job {handle(job)} is taken by {who}")


_LIVING: frozenset[State] = frozenset(STATES) - TERMINAL
