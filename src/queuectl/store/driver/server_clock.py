"""Estimates the server's clock: reads it regularly, and adds the time of the local clock since the last reading."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from queuectl.clock import boottime
from queuectl.errors import StoreError
from queuectl.store.driver import codec

GOOD_FOR = 5.0
"""Seconds after which the server's clock is read again."""
SET_BACK = timedelta(hours=1)
"""If the clock is set back by more than this, it was corrected, and the estimate follows."""


def steady(before: datetime, now: datetime) -> datetime:
    """The next reading of a clock whose last one was `before`: not earlier, unless set back by more than an hour."""
    return now if now < before - SET_BACK else max(before, now)


class ServerClock:
    """The server's last reading plus the local time since it arrived. Never ahead of the server, and behind it by
    less than one round trip, so a job that is stamped here is due there at once. Goes backwards only as `steady`
    allows.
    """

    def __init__(
        self, ask: Callable[[], int], reachable: Callable[[], bool], good_for: float = GOOD_FOR
    ) -> None:
        self._ask, self._reachable, self._good_for = ask, reachable, good_for
        self._lock = threading.Lock()
        self._said: int | None = None
        self._heard = 0.0
        self._last = codec.moment(0)

    def now(self) -> datetime:
        """The time of the server's clock. Raises StoreError before the first reading. If the server cannot be reached
        later, the local clock is used, so that a caller that only needs the time does not fail.
        """
        since = boottime() - self._heard
        if self._said is None:
            self.heard(self._ask())
        elif since >= self._good_for and self._reachable():
            with suppress(StoreError):
                self.heard(self._ask())
        with self._lock:
            passed = 0.0 if self._good_for <= 0 else boottime() - self._heard
            self._last = steady(self._last, codec.moment((self._said or 0) + int(passed * 1_000_000)))
            return self._last

    def heard(self, micros: int) -> None:
        """Use a reading that the server has just sent."""
        with self._lock:
            self._said, self._heard = micros, boottime()
