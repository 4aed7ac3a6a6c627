"""Attempt ids for stores that need them before they know how many jobs a claim takes."""

import threading
from collections import deque
from collections.abc import Callable


class AttemptIds:
    """Attempt ids, made before the number of claimed jobs is known. The next claim uses the ids that were left."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make, self._lock, self._spare = make, threading.Lock(), deque[str]()

    def take(self, count: int) -> list[str]:
        """This many ids, none of which is ever given to another claim."""
        with self._lock:
            return [self._spare.popleft() if self._spare else self._make() for _ in range(count)]

    def give_back(self, unused: list[str]) -> None:
        """Return ids that are known to be unused; never after a lost reply."""
        with self._lock:
            self._spare.extendleft(reversed(unused))
