"""When a worker claims jobs, and how many: its free slots, and a few jobs ahead while jobs are very short."""

from datetime import datetime

AHEAD_SECONDS = 0.05
"""Seconds that all jobs claimed ahead may take together, so that none starts much later than on another worker."""
AHEAD_MOST = 128
SHORT = 0.025
"""Jobs are claimed ahead only while a job takes less than this many seconds."""


class ClaimPolicy:
    """Decides when to claim. Reads no clock: the caller passes the events and their times.

    dirty  a claim may find jobs: since the last claim a slot became free or jobs became ready, or the last claim took
           as many jobs as it asked for
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._mean = 1.0
        self._next_tick = 0.0
        self._retries: list[datetime] = []
        self.ahead = 0
        """How many jobs beyond the slots may wait in the holder."""
        self.dirty = True

    def record_run_time(self, seconds: float) -> None:
        """A command ran for `seconds`. One long command ends claiming ahead at once."""
        short = seconds <= SHORT and self._mean <= SHORT
        self._mean = 0.9 * self._mean + 0.1 * seconds if short else seconds
        self.ahead = 0
        if self._mean <= SHORT:
            self.ahead = min(AHEAD_MOST, int(AHEAD_SECONDS / max(self._mean, 0.0005)) * self._count)

    def retry_at(self, time: datetime) -> None:
        """A job that failed here is due again at this time of the store's clock. No notification announces it."""
        self._retries.append(time)

    def capacity(self, held: int) -> int:
        """How many jobs to claim when the worker has `held` claims: 0, or enough to be worth a transaction."""
        capacity = self._count + self.ahead - held
        return capacity if capacity >= max(1, self.ahead // 2) else 0

    def due(self, now: float, store_now: datetime) -> float:
        """When to claim next: now if `dirty`, else at the next tick or the next retry, whichever is first."""
        if self.dirty:
            return now
        if not self._retries:
            return self._next_tick
        return min(self._next_tick, now + (min(self._retries) - store_now).total_seconds())

    def record_claim(self, now: float, store_now: datetime, tick: float) -> None:
        """The worker claims now. Without a notification the next claim follows `tick` seconds later."""
        self._next_tick = now + tick
        self._retries = [time for time in self._retries if time > store_now]
