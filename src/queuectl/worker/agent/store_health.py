"""Store health: whether the store answers, when to try again, and since when the store has answered without a gap.

A round of the loop that took much longer than intended is also a gap: the process was stopped, the host slept, or the
store blocked. Other workers may have been cut off in the same way and could not renew their leases. So the expired
leases of others are judged only by a worker that has been connected for one whole lease (guarantee G6).
"""

from queuectl.clock import boottime

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
LOG_EVERY = 60.0
"""Seconds after which an outage that lasts is logged again."""
GAP_SHARE = 2


class StoreHealth:
    """Records the faults and answers of the store. All times are CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self.away_until = 0.0
        self._since = self._last_round = boottime()
        self._pause = FIRST_PAUSE
        self._was_permanent = False
        self._logged_at = 0.0

    @property
    def away(self) -> bool:
        """Whether the last call failed."""
        return self.away_until > 0.0

    def failed(self, *, permanent: bool = False) -> bool:
        """Record a failed call. Returns whether to log it: the first, the first permanent one, then one per minute.

        `permanent`: waiting does not help; a person must repair something.
        """
        now = boottime()
        log = not self.away or (permanent and not self._was_permanent) or now >= self._logged_at + LOG_EVERY
        self._logged_at = now if log else self._logged_at
        self._was_permanent = self._was_permanent or permanent
        self.away_until = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return log

    def recovered(self) -> None:
        """Record that the store answers again."""
        self._since = boottime()
        self.away_until, self._pause = 0.0, FIRST_PAUSE
        self._was_permanent = False

    def begin_round(self, meant_to_wait: float, lease: float) -> bool:
        """Record the begin of a round that should follow after `meant_to_wait` seconds.

        Returns whether there is a gap.
        """
        now = boottime()
        gap = now - self._last_round - meant_to_wait > lease / GAP_SHARE
        if gap:
            self._since = now
        self._last_round = now
        return gap

    def connected_for(self, lease: float) -> bool:
        """Whether the store has answered without a gap for `lease` seconds, including this round."""
        now = boottime()
        if now - self._last_round > lease / GAP_SHARE:
            self._since = now
        return not self.away and now - self._since >= lease
