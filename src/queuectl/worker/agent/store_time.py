"""Converts times of this host's clock into times of the store's clock.

The clock of a host may be hours off, or be set while a command runs. So the holder also notes each start by
`boottime` (`born`), a clock that cannot be set. The agent reads the store's time at each heartbeat. The start of a
command by the store's clock is that time minus the time since `born`.
"""

import time
from collections.abc import Callable

from queuectl.clock import boottime
from queuectl.store.protocol import Store
from queuectl.worker.protocol import Exited, KnownAttempt, Output


class StoreTime:
    """The offset between the clocks, measured at each heartbeat. `wall` and `boot` are the clocks of this host."""

    def __init__(
        self, store: Store, wall: Callable[[], float] = time.time, boot: Callable[[], float] = boottime
    ) -> None:
        self._store, self._wall, self._boot = store, wall, boot
        self._said: float | None = None
        self._at = 0.0
        self.skew: float | None = None

    def measure(self) -> None:
        """Read the store's time. The answer is assumed to be half a round trip old."""
        before = self._boot()
        said = self._store.now().timestamp()
        self._at = self._boot()
        self._said = said + (self._at - before) / 2
        self.skew = round(self._wall() - self._said, 3)

    def convert(self, born: float | None, wall: float) -> float:
        """The store's time (epoch seconds) of an event at `born` (boottime or None) and `wall` on this host."""
        if self._said is None:
            return wall
        return wall - (self.skew or 0.0) if born is None else self._said + born - self._at

    def convert_start(self, attempt: KnownAttempt) -> KnownAttempt:
        """The attempt with its start as a time of the store's clock."""
        if attempt.started_at is None:
            return attempt
        return attempt._replace(started_at=self.convert(attempt.born, attempt.started_at))

    def convert_output(self, message: Output) -> Output:
        """The chunk with its time as a time of the store's clock."""
        return message._replace(at=self.convert(None, message.at))

    def convert_end(self, message: Exited) -> Exited:
        """The result with its times as times of the store's clock. The measured duration does not change."""
        if message.progress:
            reported = {**message.progress, "at": self.convert(None, message.progress["at"])}
            message = message._replace(progress=reported)
        if message.started_at is None:
            return message
        started = self.convert(message.born, message.started_at)
        if message.finished_at is None:
            return message._replace(started_at=started)
        return message._replace(
            started_at=started, finished_at=started + (message.finished_at - message.started_at)
        )
