"""Collects the jobs that a handle has set aside, until `Store.set_aside` returns them."""

from collections import deque
from collections.abc import Sequence

from queuectl.domain.query import Unreadable

KEPT = 1000
"""Maximum number of jobs that are collected. `doctor` finds the others."""
AT_ONCE = 200
"""A claim ends after it has set aside this many jobs: each costs a query, and SQLite blocks other writers meanwhile."""


class SetAside:
    """`claim` and others add jobs, `Store.set_aside` takes them. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept = deque[Unreadable](maxlen=KEPT)
        self.met = 0
        """The number of jobs that were added so far."""

    def add(self, damaged: Sequence[Unreadable]) -> None:
        """Add jobs that were set aside."""
        self._kept.extend(damaged)
        self.met += len(damaged)

    def is_enough(self, met: int) -> bool:
        """Whether a claim should end, because it has set aside many jobs. `met`: the number when the claim began."""
        return self.met - met >= AT_ONCE

    def take(self) -> list[Unreadable]:
        """All jobs that were added since the last call."""
        return [self._kept.popleft() for _ in range(len(self._kept))]
