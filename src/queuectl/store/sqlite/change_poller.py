"""Notice what other processes change: by a look at SQLite's `data_version`, and by the kernel's word while idle.

`data_version` is read on the writing connection: there it rises for changes by anybody else and never for our own,
so that a worker which renews its leases is not woken by itself. Looks are frequent after activity and grow rarer.
A sleep of 10 ms costs a core half a percent already, so when nothing happens for a while the kernel is asked to tell
of writes to the log. It tells before a commit can be seen (the sync comes between), so its word only makes the looks
frequent again; and a look now and then makes up for a word that never came.
"""

import time

import apsw

from queuectl.store.driver.self_pipe import SelfPipe
from queuectl.store.sqlite.watch import Watch
from queuectl.store.sqlite.writer import Writer

SHORTEST, LONGEST = 0.002, 0.010
LONGEST_BLIND = 0.025
"""Seconds between looks where the kernel tells nothing."""
LONGEST_WATCHED = 0.25
_GROWTH = 1.1


class ChangePoller:
    """`wait` returns when something may have changed; `wake` lets it return at once."""

    def __init__(self, writer: Writer, log: str) -> None:
        self._writer, self._log = writer, log
        self._pipe = SelfPipe()
        self._watch: Watch | None = None
        self._blind = False
        self._seen: int | None = None
        self._pause = SHORTEST

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._pipe.wake()

    def quicken(self) -> None:
        """Something happens: look more often for a while."""
        self._pause = SHORTEST

    def begin(self) -> None:
        """Changes count from here. Called before the first claim, so that none between it and a wait is missed."""
        if self._seen is None:
            self._changed()

    def wait(self, timeout: float) -> bool:
        """Whether something may have changed within `timeout` seconds, or since the last wait."""
        if self._seen is None:
            # Nobody knows what changed before this first look.
            self.begin()
            return True
        deadline = time.monotonic() + timeout
        while not self._changed():
            rest = deadline - time.monotonic()
            if self._rest(max(0.0, rest)):
                return True
            if rest <= 0:
                return False
        self.quicken()
        return True

    def _rest(self, longest: float) -> bool:
        """Sleep until it is time for another look. True if the bell was rung meanwhile."""
        if self._pause < LONGEST or self._blind:
            rung, _ = self._pipe.wait(min(self._pause, longest))
            self._pause = min(self._pause * _GROWTH, LONGEST_BLIND if self._blind else LONGEST)
            return rung
        if self._watch is None:
            self._watch = Watch.of(self._log)
            self._blind = self._watch is None
            return False
        rung, told = self._pipe.wait(min(LONGEST_WATCHED, longest), self._watch.descriptor)
        if told:
            self._watch.drain()
            self.quicken()
        return rung

    def _changed(self) -> bool:
        found = self._writer.peek(_data_version)
        if found is None:
            return False
        before, self._seen = self._seen, found
        return before is not None and before != found


def _data_version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").get)
