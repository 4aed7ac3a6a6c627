"""Notice what other processes change: a look at SQLite's `data_version`, often after activity and seldom when
idle.

It is read on the writing connection: there the number rises for changes by anybody else, and never for our
own. A worker that only renews its leases is thus not woken by itself.
"""

import threading
import time

import apsw

from queuectl.store.sqlite.writer import Writer

SHORTEST, LONGEST = 0.002, 0.010
_GROWTH = 1.1


class Pulse:
    """`wait` returns when something may have changed; `wake` lets it return at once."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._woken = threading.Event()
        self._seen: int | None = None
        self._pause = SHORTEST

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._woken.set()

    def quicken(self) -> None:
        """Something happens: look more often for a while."""
        self._pause = SHORTEST

    def begin(self) -> None:
        """Changes count from here. Called before the first claim, so that nothing between claim and wait is
        missed.
        """
        if self._seen is None:
            self._changed()

    def wait(self, timeout: float) -> bool:
        """Whether something may have changed within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self._changed():
            rest = deadline - time.monotonic()
            if self._woken.wait(max(0.0, min(self._pause, rest))):
                self._woken.clear()
                return True
            if rest <= 0:
                return False
            self._pause = min(self._pause * _GROWTH, LONGEST)
        self.quicken()
        return True

    def _changed(self) -> bool:
        found = self._writer.peek(_data_version)
        if found is None:
            return False
        before, self._seen = self._seen, found
        return before is not None and before != found


def _data_version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").get)
