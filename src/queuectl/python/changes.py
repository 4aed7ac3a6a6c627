"""The methods of `Queue` that change jobs: cancel, retry, hold, release, edit, delete, purge."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, overload

from msgspec.structs import replace

from queuectl.domain.ids import is_several
from queuectl.domain.instant import in_range
from queuectl.domain.job import TERMINAL
from queuectl.domain.query import Filter
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput
from queuectl.python.arguments import Duration, Reference, reference_of, several, span_of, time_of, words_of
from queuectl.python.opening import Opening
from queuectl.python.values import Change, Job, change_of
from queuectl.service.changing import Change as Changed
from queuectl.service.listing import states_of
from queuectl.service.operation import Operation, Selection
from queuectl.service.queue import Queue as FrontDoor

# A `str` is one reference, although it is also iterable. The first overload applies, so mypy's warning is disabled.


class Changes(Opening):
    """Changes of one job, of several jobs, or of the jobs that match a filter."""

    @overload
    def cancel(self, jobs: Reference, *, reason: str | None = None) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def cancel(self, jobs: Iterable[Reference], *, reason: str | None = None) -> list[Change]: ...

    @overload
    def cancel(self, *, where: str, limit: int | None = None, reason: str | None = None) -> list[Change]: ...

    def cancel(
        self,
        jobs: Reference | Iterable[Reference] | None = None,
        *,
        where: str | None = None,
        limit: int | None = None,
        reason: str | None = None,
    ) -> Job | list[Change]:
        """Cancel a job: a waiting job never starts; a running job becomes `cancelled` when its processes have ended.

        For one job, returns the job, and raises `Conflict` if it has already ended in another state. For several
        jobs, returns one `Change` each. Raises `NotFound`, before any change, if a job does not exist.

        `where`: a filter in place of jobs, such as `"state:failed queue:mail"`, for all jobs that match, or the first
        `limit`. Jobs that had ended are left out. `retry`, `hold`, `release`, `edit` and `delete` behave in the same
        way. Through a server this is one request for each job; `operate` is one for all, and returns counts.
        """
        return self._act(
            _Meant(jobs, where, limit), lambda opened, named: opened.cancel(named, reason=reason)
        )

    @overload
    def retry(self, jobs: Reference, *, force: bool = False, alone: bool = False) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def retry(
        self, jobs: Iterable[Reference], *, force: bool = False, alone: bool = False
    ) -> list[Change]: ...

    @overload
    def retry(
        self, *, where: str, limit: int | None = None, force: bool = False, alone: bool = False
    ) -> list[Change]: ...

    def retry(
        self,
        jobs: Reference | Iterable[Reference] | None = None,
        *,
        where: str | None = None,
        limit: int | None = None,
        force: bool = False,
        alone: bool = False,
    ) -> Job | list[Change]:
        """Run a dead, cancelled or failed job once more, with a new retry budget; with `force` a completed one too.

        The job waits for its parents again, and jobs that were cancelled because of it wait for it again (for several
        jobs, they follow in the answer); not with `alone`. Raises `Conflict` if one job cannot be retried.
        """
        return self._act(
            _Meant(jobs, where, limit), lambda opened, named: opened.retry(named, force=force, alone=alone)
        )

    @overload
    def hold(self, jobs: Reference) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def hold(self, jobs: Iterable[Reference]) -> list[Change]: ...

    @overload
    def hold(self, *, where: str, limit: int | None = None) -> list[Change]: ...

    def hold(
        self,
        jobs: Reference | Iterable[Reference] | None = None,
        *,
        where: str | None = None,
        limit: int | None = None,
    ) -> Job | list[Change]:
        """Keep a waiting job from starting until it is released. Raises `Conflict` if one job does not wait."""
        return self._act(_Meant(jobs, where, limit), lambda opened, named: opened.hold(named))

    @overload
    def release(self, jobs: Reference, *, anyway: bool = False) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def release(self, jobs: Iterable[Reference], *, anyway: bool = False) -> list[Change]: ...

    @overload
    def release(self, *, where: str, limit: int | None = None, anyway: bool = False) -> list[Change]: ...

    def release(
        self,
        jobs: Reference | Iterable[Reference] | None = None,
        *,
        where: str | None = None,
        limit: int | None = None,
        anyway: bool = False,
    ) -> Job | list[Change]:
        """Let a held job start when it is due and its parents have ended; with `anyway` without waiting for parents.

        Raises `Conflict` if one job is not held.
        """
        return self._act(
            _Meant(jobs, where, limit), lambda opened, named: opened.release(named, anyway=anyway)
        )

    @overload
    def edit(  # type: ignore[overload-overlap]
        self,
        jobs: Reference,
        *,
        priority: int | None = None,
        run_at: datetime | str | None = None,
        delay: Duration | None = None,
        queue: str | None = None,
    ) -> Job: ...

    @overload
    def edit(
        self,
        jobs: Iterable[Reference],
        *,
        priority: int | None = None,
        run_at: datetime | str | None = None,
        delay: Duration | None = None,
        queue: str | None = None,
    ) -> list[Change]: ...

    @overload
    def edit(
        self,
        *,
        where: str,
        limit: int | None = None,
        priority: int | None = None,
        run_at: datetime | str | None = None,
        delay: Duration | None = None,
        queue: str | None = None,
    ) -> list[Change]: ...

    def edit(
        self,
        jobs: Reference | Iterable[Reference] | None = None,
        *,
        where: str | None = None,
        limit: int | None = None,
        priority: int | None = None,
        run_at: datetime | str | None = None,
        delay: Duration | None = None,
        queue: str | None = None,
    ) -> Job | list[Change]:
        """Change the priority, the earliest start or the queue of a job that has not started.

        `run_at`: an aware time, or text as for `--at`; `delay`: from now. Raises `InvalidInput`, and
        `Conflict` if one job has started.
        """
        if all(value is None for value in (priority, run_at, delay, queue)):
            raise InvalidInput("no change is given", "give priority, run_at, delay or queue")
        opened = self._open()
        start = _start(opened, run_at, delay)
        return self._act(
            _Meant(jobs, where, limit),
            lambda opened, named: opened.edit(named, priority=priority, run_at=start, queue=queue),
        )

    @overload
    def delete(self, jobs: Reference) -> None: ...  # type: ignore[overload-overlap]

    @overload
    def delete(self, jobs: Iterable[Reference]) -> list[Change]: ...

    @overload
    def delete(self, *, where: str, limit: int | None = None) -> list[Change]: ...

    def delete(
        self,
        jobs: Reference | Iterable[Reference] | None = None,
        *,
        where: str | None = None,
        limit: int | None = None,
    ) -> list[Change] | None:
        """Delete an ended job with its output, for good.

        For one job, returns None, and raises `Conflict` if it has not ended. For several jobs, returns one `Change`
        each: `changed` means deleted, and `job` is the job as it was.
        """
        changes = self._changes(_Meant(jobs, where, limit), lambda opened, named: opened.delete(named))
        if not isinstance(jobs, Reference):
            return [replace(change, changed=change.refused is None) for change in changes]
        if changes[0].refused is not None:
            raise changes[0].refused
        return None

    def purge(self, *, older_than: Duration, state: str | Iterable[str] = ("completed", "cancelled")) -> int:
        """Delete all jobs in these states that ended longer ago, with their output; return how many.

        `state`: "completed", "cancelled", "dead". They are deleted some hundreds at a time: if a call fails, call
        again to delete the rest.
        """
        states = states_of(words_of(state))
        if not states or states - TERMINAL:
            raise InvalidInput("only ended jobs can be purged", "state: completed, cancelled or dead")
        span = span_of("older_than", older_than)
        if span is None:
            raise InvalidInput("older_than: give a duration", "0 for all")
        opened = self._open()
        return sum(opened.purge(Filter(states=states, ended_before=in_range(opened.now() - span))))

    def _act(
        self, meant: "_Meant", act: Callable[[FrontDoor, Selection], Operation[Sequence[Changed]]]
    ) -> Job | list[Change]:
        changes = self._changes(meant, act)
        if not isinstance(meant.jobs, Reference):
            return changes
        if changes[0].refused is not None:
            raise changes[0].refused
        assert changes[0].job is not None, (
            "only a job that cannot be read is not answered, and that is refused"
        )
        return changes[0].job

    def _changes(
        self, meant: "_Meant", act: Callable[[FrontDoor, Selection], Operation[Sequence[Changed]]]
    ) -> list[Change]:
        opened = self._open()
        steps = act(opened, meant.selection(opened))
        return [change_of(each) for step in steps for each in step]


class _Meant(NamedTuple):
    """The jobs that a call changes: named, or by a filter."""

    jobs: Reference | Iterable[Reference] | None
    where: str | None
    limit: int | None

    def selection(self, opened: FrontDoor) -> Selection:
        """The selection for the service. Raises InvalidInput."""
        if (self.jobs is None) == (self.where is None):
            raise InvalidInput(
                "either jobs or where is expected", 'for example where="state:dead queue:mail"'
            )
        if self.where is not None:
            return replace(parse(self.where, opened.now()), limit=self.limit)
        if self.limit is not None:
            raise InvalidInput("limit needs where")
        named = [reference_of(job) for job in several(self.jobs or ())]
        if isinstance(self.jobs, Reference) and is_several(named[0]):
            raise InvalidInput(f"{named[0]} may mean several jobs", f"give a list: [{named[0]!r}]")
        return named


def _start(opened: FrontDoor, run_at: datetime | str | None, delay: Duration | None) -> datetime | None:
    """The new start of `edit`; None if it stays."""
    if run_at is not None and delay is not None:
        raise InvalidInput("run_at and delay say the same thing twice", "give one of them")
    if run_at is not None:
        return time_of("run_at", run_at, opened.now())
    span = span_of("delay", delay)
    return None if span is None else in_range(opened.now() + span)
