"""Waits for facts with one deadline. Tests wait only in this way and never sleep for a fixed time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Fact = TypeVar("Fact")

SHORTEST, LONGEST = 0.01, 0.05
"""Seconds between two questions. The pause grows with the wait, up to a twentieth of the wait: no test gets noticeably
slower, and a server that needs seconds is not asked a hundred times in each."""


SPEED = 5.0
"""Up to this many seconds, `within` is a bound on the speed of the product, and not a deadline for a fact."""


class TooSlow(AssertionError):
    """A bound on wall-clock time was exceeded.

    `tests/again.py` runs the test again, because another program on the machine can delay one run.
    """


def eventually(fact: Callable[[], Fact], *, within: float = 10.0, what: str | None = None) -> Fact:
    """Ask until the answer is true, and return it; fail with the last answer when `within` seconds are over."""
    start = time.monotonic()
    pause = threading.Event()
    while True:
        answer = fact()
        if answer:
            return answer
        waited = time.monotonic() - start
        if waited > within:
            fault = TooSlow if 0 < within <= SPEED else AssertionError
            raise fault(f"not within {within} s: {what or fact}; last answer: {answer!r}")
        pause.wait(min(max(SHORTEST, waited / 20), LONGEST))


def stays_quiet(wait: Callable[[float], bool], seconds: float) -> None:
    """Fail with `TooSlow` if a wait is woken. An earlier change can arrive late; a wrong wake-up comes in every run."""
    if wait(seconds):
        raise TooSlow("woken without a change, or by an earlier one")


def delay(pid: int | None) -> float:
    """The seconds since the start of a process in which its main thread was ready and did not run; 0 without one."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9 if pid else 0.0


class Stopwatch:
    """The time since its creation.

    of  a process whose main thread does the measured work: the time in which this thread was ready and other programs
        had the processors is not counted. A process that has ended is measured as long as nobody has waited for it
    """

    def __init__(self, of: int | None = None) -> None:
        self._of = of
        self._start, self._delayed = time.monotonic(), delay(of)

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return time.monotonic() - self._start - (delay(self._of) - self._delayed)

    def check(self, limit: float) -> None:
        """Fail with `TooSlow` if so many seconds have passed."""
        if self.seconds >= limit:
            raise TooSlow(f"took {self.seconds:.2f} s, which is not less than {limit} s")
