"""Whether the store answers: how long to leave it alone when it does not, and since when it does."""

from queuectl.clock import boottime

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Contact:
    """The agent's view of its connection; times in CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self.since = boottime()
        self.away_until = 0.0
        self._pause = FIRST_PAUSE

    @property
    def away(self) -> bool:
        """Whether the last attempt failed."""
        return self.away_until > 0.0

    def lost(self) -> bool:
        """An attempt failed; whether it is the first that did."""
        first = not self.away
        self.away_until = boottime() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return first

    def regained(self) -> None:
        """The store answers again. Others' leases are judged only after a whole one from here (guarantee G6)."""
        self.since = boottime()
        self.away_until, self._pause = 0.0, FIRST_PAUSE

    def lasts(self, seconds: float) -> bool:
        """Whether the store has answered for so long."""
        return not self.away and boottime() - self.since >= seconds
