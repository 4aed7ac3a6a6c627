"""Deadlines of a loop that can neither be forgotten nor be missed.

A loop waits until the nearest of its deadlines. One that has passed and still stands makes that wait zero, and the loop
turns as fast as the machine can. So a deadline is asked whether it rings, and is cleared by ringing.
"""

NEVER = float("inf")


class Alarm:
    """A moment on the clock of `boottime` at which something is to be done; `at` is NEVER while nothing is."""

    __slots__ = ("at", "rung")

    def __init__(self, at: float = NEVER) -> None:
        self.at = at
        self.rung = False
        """Whether it has rung since it was set or cleared."""

    def set(self, at: float) -> None:
        """Ring then, and not as it was set before."""
        self.at, self.rung = at, False

    def clear(self) -> None:
        """Not to ring."""
        self.set(NEVER)

    def rings(self, now: float) -> bool:
        """Whether its moment has come; true once, for it is cleared by that."""
        if now < self.at:
            return False
        self.at, self.rung = NEVER, True
        return True
