"""Time and chance, as values that can be handed in.

Nothing in `domain/` reads either: `now` and `chance` are arguments there. Leases are judged by the store's clock
(`Store.now`), durations inside a process by `monotonic`.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """The system's clock. Tests hand in one that stands still."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; counts the time a laptop sleeps where the system can (CLOCK_BOOTTIME)."""
        return boottime()


def boottime() -> float:
    """Seconds since boot, sleep included; on systems without CLOCK_BOOTTIME, the monotonic clock."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Chance = Callable[[], float]
"""A source of numbers in [0, 1)."""


def chance() -> float:
    """A number in [0, 1) from the system; `random` would cost every short command its import."""
    return int.from_bytes(os.urandom(6)) / 2**48


def random_bytes(count: int) -> bytes:
    """Unpredictable bytes: the 128 bits of an attempt id, the tail of a job id."""
    return os.urandom(count)
