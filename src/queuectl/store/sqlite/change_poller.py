"""Receives changes from SQLite, by polling its `data_version` and by inotify on its log.

`data_version` is read on the writing connection. There it rises for commits over other connections and never for
commits over this one, so a worker that renews its leases does not wake itself. It has no topics, so a commit of
another process counts as a change of all topics.

Polls are frequent after activity and become rarer. Polling every 10 ms takes half a percent of a core, so after a
while without activity, inotify reports writes to the log. Its event comes before the commit is visible (the sync
comes in between), so an event only makes the polls frequent again. Rare polls make up for events that never arrive.
"""

from collections.abc import Mapping

import apsw

from queuectl.domain import topics
from queuectl.domain.topics import Topic, Topics
from queuectl.store.driver.notifier import Source
from queuectl.store.sqlite.watch import Watch
from queuectl.store.sqlite.writer import Writer

SHORTEST, LONGEST = 0.002, 0.010
"""Seconds between two polls: directly after activity, and just before the wait for inotify begins."""
MAX_POLL_UNWATCHED = 0.025
"""Seconds between two polls on a system without inotify."""
MAX_POLL_WATCHED = 0.25
_GROWTH = 1.1


class ChangePoller(Source):
    """Polls one database file. `log`: the path of its write-ahead log."""

    signalled = topics.ALL
    misses_own, throttled, lossy = True, False, False

    def __init__(self, writer: Writer, log: str) -> None:
        self._writer, self._log = writer, log
        self._watch: Watch | None = None
        self._unwatchable = False
        self._version = -1
        self._counters: Mapping[Topic, int] = {}
        self._pause = SHORTEST

    def reset_backoff(self) -> None:
        """Poll more often for a while, because there is activity."""
        self._pause = SHORTEST

    @property
    def _backed_off(self) -> bool:
        return self._pause >= LONGEST and not self._unwatchable

    def descriptor(self) -> int | None:
        return self._watch.descriptor if self._watch is not None and self._backed_off else None

    def drain(self) -> Topics | None:
        if self._watch is not None and self.readable and self._watch.drain():
            self.reset_backoff()
        return None

    def counters(self) -> Mapping[Topic, int]:
        """The counters: the same number for every topic. While the connection is busy, the last numbers."""
        found = self._writer.peek(_data_version)
        if found is not None and found != self._version:
            self._version = found
            self._counters = dict.fromkeys(topics.ALL, found)
            self.reset_backoff()
        return self._counters

    def interval(self) -> float:
        """Seconds until the next poll. They increase with each call until `reset_backoff`."""
        if self._backed_off and self._watch is None:
            self._watch = Watch.of(self._log)
            self._unwatchable = self._watch is None
            return 0.0  # the next poll finds writes from before the watch
        if self._backed_off:
            return MAX_POLL_WATCHED
        pause = self._pause
        self._pause = min(pause * _GROWTH, MAX_POLL_UNWATCHED if self._unwatchable else LONGEST)
        return pause


def _data_version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").get)
