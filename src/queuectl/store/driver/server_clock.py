"""The server's clock as this process knows it: read now and then, and carried on by our own in between."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from queuectl.clock import boottime
from queuectl.errors import StoreError
from queuectl.store.driver import codec

GOOD_FOR = 5.0
"""Seconds after which the server is asked again."""
SET_BACK = timedelta(hours=1)
"""A clock that is further behind what it said before was set right: it is followed, or we would stay in the future."""


def steady(before: datetime, now: datetime) -> datetime:
    """What a clock says that said `before` already: not less, unless it was set back by more than an hour."""
    return now if now < before - SET_BACK else max(before, now)


class ServerClock:
    """Never ahead of the server: what it said, plus the time since its answer came. Behind it by less than one round
    trip, so that what is stamped here is due there at once. Does not go backwards, but for `steady`.
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
        """Raises StoreError before the first answer; afterwards an absence of the server is bridged: nobody who only
        wants to know the time has to do with its faults.
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
        """The server said so, just now."""
        with self._lock:
            self._said, self._heard = micros, boottime()
