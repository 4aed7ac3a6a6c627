"""Operations on many jobs, done in steps, so that no store call takes long and only one step is in memory.

A filter selects the jobs that match and have a number up to the greatest one at the start, in the order of their
numbers. So an operation ends although other processes enqueue jobs. Each job is decided by the rule for one job; a job
that changes meanwhile and does not match any more stays unchanged.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Generic, TypeVar

from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.domain.job import STATES, TERMINAL, Job, State
from queuectl.domain.query import Filter
from queuectl.domain.where import Where
from queuectl.errors import InvalidInput
from queuectl.service import commands, matching, references
from queuectl.service.changing import Change, Chosen
from queuectl.service.matching import Preview, Wanted
from queuectl.store.protocol import Store

Step = TypeVar("Step")
Selection = Sequence[str] | Where
"""References to jobs, or a filter for all jobs that match."""
Act = Callable[[Sequence[str]], Sequence[Change]]
"""A function that changes the jobs of one step. The argument is the list of their ids."""


class Operation(Generic[Step]):
    """An operation on jobs that is done while it is iterated, some hundreds of jobs at a time.

    Nothing is changed before the first step. A step is complete when the iterator returns its result. A caller that
    stops between two steps, and calls `close`, leaves no job half changed. The same operation, repeated, continues
    where the first one stopped.
    """

    def __init__(
        self,
        steps: Generator[Step],
        count: Callable[[], int],
        preview: Callable[[], Preview] | None = None,
        reached: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._steps, self._count, self._preview, self._reached = steps, count, preview, reached

    def count(self) -> int:
        """The number of jobs that are selected now. For a filter this is a query to the store, so call it only once."""
        return self._count()

    def preview(self) -> Preview:
        """The jobs that are selected now: how many in each state, and the first ones. Changes nothing."""
        assert self._preview, "this operation has no preview"
        return self._preview()

    @property
    def reached(self) -> int | None:
        """The number up to which a filter's jobs are done, or None if all are, or if the jobs were named."""
        return self._reached()

    def __iter__(self) -> Iterator[Step]:
        return self._steps

    def close(self) -> None:
        """End the operation after its last complete step. Idempotent."""
        self._steps.close()


class _Walk:
    """The steps of an operation on the jobs that match a filter.

    `also` is a further condition. `again` contains the refused jobs that a retry tries once more at the end.
    """

    def __init__(self, store: Store, where: Where, also: Callable[[Job], bool] = lambda job: True) -> None:
        self._store, self._where, self._also = store, where, also
        self._begun = self._done = max(where.numbers[0] - 1, 0)
        self._is_complete = False
        self._again = list[Change]()

    def steps(self, act: Act) -> Generator[Sequence[Change]]:
        """Change the jobs step by step. A part of the store without matching jobs is a step without changes."""
        for chosen in self._chosen():
            changes = act(chosen) if chosen else ()
            crashpoint.reach("after_step")
            self._done = self._begun
            yield changes
        self._is_complete = self._where.limit is None

    def retried(self, *, force: bool, alone: bool) -> Generator[Sequence[Change]]:
        """Retry the jobs step by step."""
        chosen, again = self._chosen(), self._again
        with closing(commands.retry_chosen(self._store, chosen, again, force=force, alone=alone)) as steps:
            for changes in steps:
                self._done = self._begun
                yield changes
        self._is_complete = self._where.limit is None

    def _chosen(self) -> Iterator[Chosen]:
        for jobs, last in matching.walk(self._store, self._where, self._also):
            self._begun = last
            yield Chosen(jobs, self._where)

    def operation(self, steps: Generator[Sequence[Change]]) -> Operation[Sequence[Change]]:
        """The operation with these steps."""
        count, preview = partial(matching.count, self._store), partial(matching.preview, self._store)
        return Operation(steps, partial(count, self._where), partial(preview, self._where), self.reached)

    def reached(self) -> int | None:
        """The number up to which all jobs are done; None if the operation is complete."""
        if self._is_complete:
            return None
        numbers = (each.job.number for each in self._again if each.job)
        return min([self._done, *(number - 1 for number in numbers)])


def over(store: Store, selection: Selection, act: Act) -> Operation[Sequence[Change]]:
    """Apply `act` to the selected jobs. Raises NotFound at once for an unknown reference."""
    if isinstance(selection, Where):
        walk = _Walk(store, selection)
        return walk.operation(walk.steps(act))
    ids = references.resolve(store, selection)
    return _named(store, ids, (act(step) for step in commands.in_steps(ids)))


def retry(
    store: Store, selection: Selection, *, force: bool, alone: bool, version: int | None = None
) -> Operation[Sequence[Change]]:
    """Retry the selected jobs. A filter selects the jobs that ended, or failed, before this call."""
    if isinstance(selection, Where):
        begun = store.now() + timedelta(microseconds=1)
        walk = _Walk(
            store, among(selection, RETRYABLE), lambda job: job.finished_at is None or job.finished_at < begun
        )
        return walk.operation(walk.retried(force=force, alone=alone))
    ids = references.resolve(store, selection)
    return _named(store, ids, commands.retry_in_steps(store, ids, force=force, alone=alone, version=version))


def purge(store: Store, wanted: Wanted) -> Operation[int]:
    """Delete the ended jobs that match. Each step returns the number of deleted jobs."""
    if isinstance(wanted, Filter):
        return Operation(commands.purge_in_steps(store, wanted), lambda: store.counts(wanted).total())
    steps = over(store, among(wanted, TERMINAL), lambda ids: commands.delete(store, ids))

    def deleted() -> Generator[int]:
        with closing(steps):
            for changes in steps:
                yield sum(change.changed for change in changes)

    return Operation(deleted(), steps.count)


def _named(
    store: Store, ids: Sequence[str], steps: Generator[Sequence[Change]]
) -> Operation[Sequence[Change]]:
    return Operation(steps, lambda: len(ids), lambda: _preview(store, ids))


def _preview(store: Store, ids: Sequence[str]) -> Preview:
    by_state: dict[State, int] = {}
    for step in commands.in_steps(ids):
        for job in store.get(step).values():
            by_state[job.state] = by_state.get(job.state, 0) + 1
    return Preview(len(ids), by_state, list(ids[: matching.SAMPLE]))


RETRYABLE: frozenset[State] = TERMINAL | {"failed"}
"""The states of jobs that `retry` can run again. With a filter, jobs in other states are left out."""


def not_ended(selection: Selection) -> Selection:
    """The selection without ended jobs. Raises InvalidInput for a filter that selects only ended jobs."""
    if not isinstance(selection, Where):
        return selection
    named = selection.filter.states
    if named and named <= TERMINAL:
        raise InvalidInput(
            f"jobs in state {', '.join(sorted(named))} have ended", "there is nothing left to cancel"
        )
    return among(selection, frozenset(STATES) - TERMINAL)


def among(where: Where, states: frozenset[State]) -> Where:
    """The jobs that match and are in one of these states when they are selected."""
    meant = (where.filter.states or frozenset(STATES)) & states
    if not meant:
        return replace(where, text=f"{where.text} number:<1", numbers=(1, 0), exact=False)
    return replace(where, filter=replace(where.filter, states=meant))
