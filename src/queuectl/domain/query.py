"""Queries to a store: a filter, an order, and a maximum number."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from msgspec import Struct

from queuectl.domain.job import Job, State

Sort = Literal["created", "updated", "next", "number", "ended"]


class Filter(Struct, frozen=True, kw_only=True):
    """Jobs that match every field that is set.

    states          one of these
    created_since   created at or after
    ended_before    ended before (only jobs that ended)
    id_prefix       id begins with
    ids             the jobs with these ids
    number          the job with this number
    unique_key      the jobs with this key
    waiting_for     jobs that wait for one of these parents, or were cancelled because of it
    worker          claimed by this worker
    """

    states: frozenset[State] = frozenset()
    queue: str | None = None
    tag: str | None = None
    batch: str | None = None
    created_since: datetime | None = None
    ended_before: datetime | None = None
    id_prefix: str | None = None
    ids: tuple[str, ...] = ()
    number: int | None = None
    unique_key: str | None = None
    waiting_for: tuple[str, ...] = ()
    worker: str | None = None


class Page(Struct, frozen=True, kw_only=True):
    """The request for a part of a result. `after` is the cursor of the previous page; there are no offsets.

    created: newest first. updated: last changed first. next: in the order in which they become due and are claimed.
    number: oldest first. ended: last ended first; a store lists only ended jobs in this order.

    The cursor of `number` is the number of the last job, and that of `created` the same with a minus.
    """

    limit: int = 50
    after: str | None = None
    sort: Sort = "created"


class Unreadable(Struct, frozen=True):
    """A stored job that cannot be decoded. It never runs, and stays in the store until a person deletes it."""

    id: str
    number: int
    reason: str


class Found(Struct, frozen=True):
    """The jobs of one page, and the cursor of the next page or None.

    unreadable  the jobs of the page that cannot be decoded
    looked_at   the page is not full although there may be more jobs, because so many jobs were looked at
    """

    jobs: list[Job]
    next: str | None
    unreadable: list[Unreadable] = []
    looked_at: int | None = None


class Jobs(dict[str, Job]):
    """Jobs by id. `unreadable`: the requested jobs that are stored and cannot be decoded."""

    def __init__(self, jobs: Iterable[Job] = (), unreadable: Iterable[Unreadable] = ()) -> None:
        super().__init__((job.id, job) for job in jobs)
        self.unreadable = {each.id: each for each in unreadable}


class Counts(Struct, frozen=True):
    """The number of jobs per queue and state. States without jobs are omitted."""

    queues: dict[str, dict[State, int]]

    def states(self) -> dict[State, int]:
        """The number of jobs per state, in all queues."""
        sums: dict[State, int] = {}
        for per_state in self.queues.values():
            for state, count in per_state.items():
                sums[state] = sums.get(state, 0) + count
        return sums

    def total(self) -> int:
        """The number of all jobs."""
        return sum(self.states().values())

    def of(self, *states: State) -> int:
        """The number of jobs in these states."""
        sums = self.states()
        return sum(sums.get(state, 0) for state in states)


def matches(job: Job, wanted: Filter) -> bool:
    """Whether a job matches a filter. A driver may decide this faster, but must have the same result."""
    return (
        (not wanted.states or job.state in wanted.states)
        and (wanted.queue is None or job.queue == wanted.queue)
        and (wanted.tag is None or wanted.tag in job.spec.tags)
        and (wanted.batch is None or job.spec.batch == wanted.batch)
        and (wanted.created_since is None or job.created_at >= wanted.created_since)
        and (wanted.ended_before is None or _ended_before(job, wanted.ended_before))
        and (wanted.id_prefix is None or job.id.startswith(wanted.id_prefix))
        and (not wanted.ids or job.id in wanted.ids)
        and (wanted.number is None or job.number == wanted.number)
        and (wanted.unique_key is None or job.spec.unique_key == wanted.unique_key)
        and (not wanted.waiting_for or not set(wanted.waiting_for).isdisjoint(job.waiting_for))
        and (wanted.worker is None or (job.lease is not None and job.lease.worker == wanted.worker))
    )


def _ended_before(job: Job, at: datetime) -> bool:
    return job.ended and job.finished_at is not None and job.finished_at < at
