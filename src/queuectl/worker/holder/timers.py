"""Deadlines of the holder's loop.

The loop sleeps until its nearest deadline. If a past deadline stayed set, the loop would not sleep at all and use a
whole core (`tests/worker/test_loop.py`). So a deadline clears itself when it fires.

All times are on the clock of `boottime`.
"""

import heapq
from collections.abc import Iterator

NEVER = float("inf")


class Deadline:
    """The time at which a step is due. `at` is NEVER while the deadline is cleared."""

    __slots__ = ("at", "fired")

    def __init__(self, at: float = NEVER) -> None:
        self.at = at
        self.fired = False
        """Whether the deadline has fired since it was last set or cleared."""

    def set(self, at: float) -> None:
        """Set the time. This replaces an earlier time."""
        self.at, self.fired = at, False

    def clear(self) -> None:
        """Clear the deadline, so that it does not fire."""
        self.set(NEVER)

    def fires(self, now: float) -> bool:
        """Whether the time has been reached. Returns True once, and clears the deadline."""
        if now < self.at:
            return False
        self.at, self.fired = NEVER, True
        return True


class Timers:
    """One deadline per key, in a heap.

    Moving a deadline leaves its old entry in the heap. The entry is recognised by its time and skipped, and the heap
    is rebuilt when most of it is old: both cost less than a search in the heap.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}

    def due(self) -> float:
        """The latest time at which `expired` must be called."""
        return self._heap[0][0] if self._heap else NEVER

    def set_no_later(self, key: str, at: float) -> None:
        """Set the deadline of this key to this time, unless the deadline is already earlier."""
        if at < self._at.get(key, NEVER):
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > 4 * len(self._at) + 64:
                self._heap = [(at, key) for key, at in self._at.items()]
                heapq.heapify(self._heap)

    def clear(self, key: str) -> None:
        """Remove the deadline of this key."""
        self._at.pop(key, None)

    def expired(self, now: float) -> Iterator[str]:
        """The keys whose deadlines have passed. Each deadline is cleared before its key is yielded."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                yield key
