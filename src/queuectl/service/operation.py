"""Acts on many jobs, done in steps: no store call takes long, and no more than one step is held in memory."""

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
"""Jobs that are named by references, or all that match a filter."""
Act = Callable[[Sequence[str]], Sequence[Change]]
"""What is done to the jobs of one step, which are given by their ids."""


class Operation(Generic[Step]):
    """An act on jobs that is done while it is iterated, some hundreds of jobs at a time.

    Nothing is changed before the first step. Each step is complete when the iterator answers: a caller that stops
    between two steps, and calls `close`, leaves no job half changed. Repeating the same act goes on where it stopped.
    """

    def __init__(self, steps: Generator[Step], count: Callable[[], int]) -> None:
        self._steps, self._count = steps, count

    def count(self) -> int:
        """How many jobs are selected now. For a filter the store is asked, so ask once."""
        return self._count()

    def __iter__(self) -> Iterator[Step]:
        return self._steps

    def close(self) -> None:
        """End the act after the step that was done last. Idempotent."""
        self._steps.close()


def over(store: Store, selection: Selection, act: Act) -> Operation[Sequence[Change]]:
    """Do this to the selected jobs. Raises NotFound at once for a reference to no job."""
    if isinstance(selection, Filter):
        steps = (act(ids) for ids in commands.select(store, selection))
        return Operation(steps, lambda: store.counts(selection).total())
    ids = references.resolve(store, selection)
    return Operation((act(step) for step in commands.in_steps(ids)), lambda: len(ids))


def retry(store: Store, selection: Selection, *, force: bool, alone: bool) -> Operation[Sequence[Change]]:
    """Run the selected jobs once more. Of a filter, those that had ended when this began."""
    if isinstance(selection, Filter):
        steps = commands.retry_matching(store, selection, force=force, alone=alone)
        return Operation(steps, lambda: store.counts(selection).total())
    ids = references.resolve(store, selection)
    return Operation(commands.retry_in_steps(store, ids, force=force, alone=alone), lambda: len(ids))


def not_ended(selection: Selection) -> Selection:
    """The same without jobs that have ended. Raises InvalidInput for a filter that selects no others."""
    if not isinstance(selection, Filter):
        return selection
    states = (selection.states or frozenset(STATES)) - TERMINAL
    if not states:
        named = ", ".join(sorted(selection.states))
        raise InvalidInput(f"jobs in state {named} have ended", "there is nothing left to cancel")
    return replace(selection, states=states)
