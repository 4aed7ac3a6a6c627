"""Operations on many jobs, done in steps, so that no store call takes long and only one step is in memory."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from queuectl.domain.job import STATES, TERMINAL
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput
from queuectl.service import commands, references
from queuectl.service.changing import Change
from queuectl.store.protocol import Store

Step = TypeVar("Step")
Selection = Sequence[str] | Filter
"""References to jobs, or a filter for all jobs that match."""
Act = Callable[[Sequence[str]], Sequence[Change]]
"""A function that changes the jobs of one step. The argument is the list of their ids."""


class Operation(Generic[Step]):
    """An operation on jobs that is done while it is iterated, some hundreds of jobs at a time.

    Nothing is changed before the first step. A step is complete when the iterator returns its result. A caller that
    stops between two steps, and calls `close`, leaves no job half changed. The same operation, repeated, continues
    where the first one stopped.
    """

    def __init__(self, steps: Generator[Step], count: Callable[[], int]) -> None:
        self._steps, self._count = steps, count

    def count(self) -> int:
        """The number of jobs that are selected now. For a filter this is a query to the store, so call it only once."""
        return self._count()

    def __iter__(self) -> Iterator[Step]:
        return self._steps

    def close(self) -> None:
        """End the operation after its last complete step. Idempotent."""
        self._steps.close()


def over(store: Store, selection: Selection, act: Act) -> Operation[Sequence[Change]]:
    """Apply `act` to the selected jobs. Raises NotFound at once for an unknown reference."""
    if isinstance(selection, Filter):
        steps = (act(ids) for ids in commands.select(store, selection))
        return Operation(steps, lambda: store.counts(selection).total())
    ids = references.resolve(store, selection)
    return Operation((act(step) for step in commands.in_steps(ids)), lambda: len(ids))


def retry(
    store: Store, selection: Selection, *, force: bool, alone: bool, version: int | None = None
) -> Operation[Sequence[Change]]:
    """Retry the selected jobs. A filter selects the jobs that ended before this call."""
    if isinstance(selection, Filter):
        steps = commands.retry_matching(store, selection, force=force, alone=alone)
        return Operation(steps, lambda: store.counts(selection).total())
    ids = references.resolve(store, selection)
    steps = commands.retry_in_steps(store, ids, force=force, alone=alone, version=version)
    return Operation(steps, lambda: len(ids))


def not_ended(selection: Selection) -> Selection:
    """The selection without ended jobs. Raises InvalidInput for a filter that selects only ended jobs."""
    if not isinstance(selection, Filter):
        return selection
    states = (selection.states or frozenset(STATES)) - TERMINAL
    if not states:
        named = ", ".join(sorted(selection.states))
        raise InvalidInput(f"jobs in state {named} have ended", "there is nothing left to cancel")
    return replace(selection, states=states)
