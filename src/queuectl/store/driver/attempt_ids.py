"""Makes attempt ids for stores that need the ids before the number of claimed jobs is known."""

import threading
from collections import deque
from collections.abc import Callable


class AttemptIds:
    """Attempt ids, made before the number of claimed jobs is known. The next claim uses the unused ids."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make, self._lock, self._spare = make, threading.Lock(), deque[str]()

    def take(self, count: int) -> list[str]:
        """Take this many ids. No other claim gets these ids, unless they are given back."""
        with self._lock:
            return [self._spare.popleft() if self._spare else self._make() for _ in range(count)]

    def give_back(self, unused: list[str]) -> None:
        """Give back ids that are certainly unused. Do not call this after a lost reply."""
        with self._lock:
            self._spare.extendleft(reversed(unused))
