"""Whether the store answers: how long to leave it alone when it does not, and since when it does without a gap.

A gap is also a round of the agent that took much longer than it meant to: blocked by a busy store, stopped, or on a
host that slept. Others may have been cut off just as long and could not renew either, so their leases are judged only
by who has been in contact for a whole lease (guarantee G6).
"""

from queuectl.clock import boottime

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
NEWS_EVERY = 60.0
"""Seconds after which an absence is news again."""
GAP_SHARE = 2


class StoreHealth:
    """The agent's view of its connection; times in CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self.away_until = 0.0
        self._since = self._heard = boottime()
        self._pause = FIRST_PAUSE
        self._person_called = False
        self._told_at = 0.0

    @property
    def away(self) -> bool:
        """Whether the last attempt failed."""
        return self.away_until > 0.0

    def lost(self, *, needs_a_person: bool = False) -> bool:
        """An attempt failed; whether that is news: the first one is, the first that waiting will not mend, and each
        minute the next one."""
        news = not self.away or (needs_a_person and not self._person_called)
        news = news or boottime() >= self._told_at + NEWS_EVERY
        self._told_at = boottime() if news else self._told_at
        self._person_called = self._person_called or needs_a_person
        self.away_until = boottime() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return news

    def regained(self) -> None:
        """The store answers again."""
        self._since = boottime()
        self.away_until, self._pause = 0.0, FIRST_PAUSE
        self._person_called = False

    def round(self, meant_to_wait: float, lease: float) -> bool:
        """A round begins, after a wait of so many seconds that was meant; whether there was a gap."""
        now = boottime()
        gap = now - self._heard - meant_to_wait > lease / GAP_SHARE
        if gap:
            self._since = now
        self._heard = now
        return gap

    def lasts(self, lease: float) -> bool:
        """Whether there has been contact without a gap for a whole lease, this round included."""
        now = boottime()
        if now - self._heard > lease / GAP_SHARE:
            self._since = now
        return not self.away and now - self._since >= lease
