"""Attempt ids for stores that want them before they know how many jobs there are."""

import threading
from collections import deque
from collections.abc import Callable


class AttemptIds:
    """Attempt ids, made before anybody knows how many jobs there are to claim. What was not used serves next time."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make, self._lock, self._spare = make, threading.Lock(), deque[str]()

    def take(self, count: int) -> list[str]:
        """As many as that, none of them ever given to anybody else."""
        with self._lock:
            return [self._spare.popleft() if self._spare else self._make() for _ in range(count)]

    def give_back(self, unused: list[str]) -> None:
        """Only what is known not to have been used: never after a lost reply."""
        with self._lock:
            self._spare.extendleft(reversed(unused))
