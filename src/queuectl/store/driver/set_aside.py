"""Which jobs a handle has set aside, until somebody asks."""

from collections import deque
from collections.abc import Sequence

from queuectl.domain.query import Unreadable

KEPT = 1000
"""So many are remembered for who asks; `doctor` finds the others."""
AT_ONCE = 200
"""After so many a claim answers what it has. Each costs a look of its own; in SQLite nobody else writes meanwhile."""


class SetAside:
    """Filled by the verbs that hand out work, emptied by `Store.set_aside`; safe for several threads."""

    def __init__(self) -> None:
        self._kept = deque[Unreadable](maxlen=KEPT)
        self.met = 0
        """How many there were so far."""

    def add(self, damaged: Sequence[Unreadable]) -> None:
        """These were set aside just now."""
        self._kept.extend(damaged)
        self.met += len(damaged)

    def is_enough(self, met: int) -> bool:
        """Whether a claim that began when `met` had been met is to leave the others to the next one."""
        return self.met - met >= AT_ONCE

    def take(self) -> list[Unreadable]:
        """All since it was asked last."""
        return [self._kept.popleft() for _ in range(len(self._kept))]
