"""The jobs that a handle has set aside, until `Store.set_aside` returns them."""

from collections import deque
from collections.abc import Sequence

from queuectl.domain.query import Unreadable

KEPT = 1000
"""The most jobs that are remembered; `doctor` finds the others."""
AT_ONCE = 200
"""A claim ends after this many. Each costs a query; in SQLite no other process can write meanwhile."""


class SetAside:
    """`claim` and others add jobs, `Store.set_aside` takes them. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept = deque[Unreadable](maxlen=KEPT)
        self.met = 0
        """How many jobs were added so far."""

    def add(self, damaged: Sequence[Unreadable]) -> None:
        """Add jobs that were set aside."""
        self._kept.extend(damaged)
        self.met += len(damaged)

    def is_enough(self, met: int) -> bool:
        """Whether a claim that began with this `met` has set aside so many jobs that it should end."""
        return self.met - met >= AT_ONCE

    def take(self) -> list[Unreadable]:
        """All jobs that were added since the last call."""
        return [self._kept.popleft() for _ in range(len(self._kept))]
