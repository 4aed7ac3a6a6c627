"""Turns requests into stored jobs: completes each request, lets the job wait for its parents, reports the result."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.clock import random_bytes
from queuectl.domain import dependency, lifecycle
from queuectl.domain.event import between
from queuectl.domain.ids import check_new_id, handle, make_id
from queuectl.domain.job import Job, Parent, Spec, State
from queuectl.domain.names import check_name
from queuectl.errors import Conflict, InvalidInput, NotFound, OutcomeUnknown, StoreError
from queuectl.service.request.fields import JobRequest
from queuectl.service.request.spec import Defaults, command_of, content_of, policy_key, spec_of, start_of
from queuectl.store.protocol import Added, Store

SHARED_SPECS = 256
"""Number of policies that are cached, so that a request with the same policy is not checked again."""

Status = Literal["added", "existing", "conflict", "duplicate"]


class JobSummary(Struct, frozen=True):
    """The facts about a stored job that each answer to an enqueue has. `Job` has them, too."""

    id: str
    number: int
    state: State
    finished_at: datetime | None = None


class Enqueued(Struct, frozen=True):
    """The result of one request.

    job      the job as stored; of a refused request the job that has the id or the key. A summary or None if the caller
             did not ask for whole jobs: a server sends no more than that
    status   added; existing (the store had it with the same content; it is unchanged); conflict or duplicate
    refused  why nothing was enqueued, or None
    """

    job: Job | JobSummary | None
    status: Status = "added"
    refused: Conflict | None = None

    @property
    def stored(self) -> Job | JobSummary:
        """The job of a request that was not refused."""
        assert self.job is not None
        return self.job

    @property
    def whole(self) -> Job:
        """The job, if the caller asked for whole jobs."""
        assert isinstance(self.job, Job)
        return self.job

    @property
    def existing(self) -> bool:
        """Whether the job was stored before."""
        return self.status == "existing"


class Enqueuer:
    """Makes jobs from requests. All of them get the same defaults and the same time `now`.

    `queue` is the queue of a request that names none.
    """

    def __init__(self, defaults: Defaults, now: datetime, queue: str = "default") -> None:
        self._defaults = defaults
        self._now = now
        self._queue = queue
        self._shared: dict[bytes, Spec] = {}
        # The ids of one batch are consecutive, so that they sort in the order of the batch even within a millisecond.
        self._random_number = int.from_bytes(random_bytes(8)) >> 5

    def job(self, request: JobRequest) -> Job:
        """The job for a request, with all its parents in `waiting_for`. Raises InvalidInput."""
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
        """The spec of the job. If only the command differs from an earlier request, the rest is reused."""
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
        """A new id, greater than all earlier ids of this enqueuer."""
        self._random_number += 1
        return make_id(self._now, self._random_number)


def jobs_of(
    enqueuer: Enqueuer,
    requests: Sequence[JobRequest],
    on_invalid: Callable[[InvalidInput], None] | None = None,
) -> list[Job]:
    """The jobs for these requests, in order.

    `on_invalid` is called with the error of each request that cannot be a job, and the other requests continue.
    Without it the first such request raises InvalidInput. The error carries the position of the request as `index`.
    """
    jobs: dict[str, Job] = {}
    for index, request in enumerate(requests):
        try:
            job = enqueuer.job(request)
            if job.id in jobs:
                raise InvalidInput(f"id {job.id} is given twice")
            jobs[job.id] = job
        except InvalidInput as error:
            error.index = index
            if on_invalid is None:
                raise
            on_invalid(error)
    return list(jobs.values())


def enqueue(store: Store, jobs: Sequence[Job]) -> list[Enqueued]:
    """Add new jobs. A job whose parents have all ended as wanted may start at once; the others wait.

    Returns the result for each job, in order; check every `refused`. Raises NotFound for an unknown parent and
    InvalidInput for jobs that wait for each other; then no job was added.
    """
    _refuse_cycles(jobs)
    placed = _behind_parents(store, jobs) if any(job.spec.after for job in jobs) else list(jobs)
    crashpoint.reach("before_add")
    try:
        added = store.add(placed, [between(None, job) for job in placed])
    except OutcomeUnknown as unknown:
        unknown.ids = tuple(job.id for job in placed)
        raise
    crashpoint.reach("after_add")
    waiting = [item.job.id for item in added if item.job.waiting_for]
    if waiting:
        # A parent may have ended after its state was read and before the jobs were stored. Its worker found no child to
        # unblock then. If the store fails here, the workers' sweep of blocked jobs does the same later.
        with suppress(StoreError, OutcomeUnknown):
            from queuectl.service import maintenance  # imported here, because only jobs with parents need it

            maintenance.unblock(store, waiting)
            fresh = store.get(waiting)
            added = [replace(item, job=fresh.get(item.job.id, item.job)) for item in added]
    return [Enqueued(item.job, item.status, _refusal(item)) for item in added]


def _refusal(added: Added) -> Conflict | None:
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


def _refuse_cycles(jobs: Sequence[Job]) -> None:
    if not any(job.spec.after for job in jobs):
        return
    for job in jobs:
        if any(parent.job == job.id for parent in job.spec.after):
            raise InvalidInput(f"job {job.id} is its own parent")
    cycle = dependency.find_cycle({job.id: [parent.job for parent in job.spec.after] for job in jobs})
    if cycle:
        raise InvalidInput(f"the jobs wait for each other: {' → '.join(cycle)}")


def _behind_parents(store: Store, jobs: Sequence[Job]) -> list[Job]:
    """The jobs in the state that their parents allow: blocked, or pending if all parents have ended as wanted."""
    own = {job.id for job in jobs}
    parents: list[Parent] = [parent for job in jobs for parent in job.spec.after]
    known = store.get(list({parent.job for parent in parents} - own))
    for each in known.unreadable.values():
        from queuectl.service import unreadable  # imported here, because only jobs with parents need it

        raise unreadable.refusal(each)
    for parent in parents:
        if parent.job not in own and parent.job not in known:
            raise NotFound(
                f"there is no job {parent.job} to wait for", dependency.missing_parent_hint(parent.job)
            )
    states = {id: job.state for id, job in known.items()}
    return [lifecycle.with_parents(job, states) for job in jobs]
