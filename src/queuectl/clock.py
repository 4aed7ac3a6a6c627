"""Time and random numbers, as functions and values that a caller can replace.

Nothing in `domain/` reads a clock or a source of random numbers: `now` and `random_number` are arguments there. Leases
are judged by the store's clock (`Store.now`), durations inside a process by `monotonic`.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """The clock of the system. Tests use a clock that they set."""

    def now(self) -> datetime:
        """The time of the wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since a fixed time. Includes the time in suspend on a system with CLOCK_BOOTTIME."""
        return boottime()


def boottime() -> float:
    """Seconds since boot, including the time in suspend. On a system without CLOCK_BOOTTIME: the monotonic clock."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

RandomNumber = Callable[[], float]
"""A source of numbers in [0, 1)."""


def random_number() -> float:
    """A random number in [0, 1) from the system. The module `random` is not used, because its import takes too long."""
    return int.from_bytes(os.urandom(6)) / 2**48


def random_bytes(count: int) -> bytes:
    """Unpredictable bytes, for example the 128 bits of an attempt id, or the tail of a job id."""
    return os.urandom(count)
