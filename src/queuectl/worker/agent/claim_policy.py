"""Decides when a worker claims, and how many jobs: one per free slot, and some ahead while jobs are very short."""

from datetime import datetime

AHEAD_SECONDS = 0.05
"""Seconds that all jobs claimed ahead may take together. More would delay jobs that another worker could start now."""
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
        """How many jobs may wait in the holder, in addition to one job per slot."""
        self.dirty = True

    def record_run_time(self, seconds: float) -> None:
        """Record the run time of a command. One long command ends claiming ahead at once."""
        short = seconds <= SHORT and self._mean <= SHORT
        self._mean = 0.9 * self._mean + 0.1 * seconds if short else seconds
        self.ahead = 0
        if self._mean <= SHORT:
            self.ahead = min(AHEAD_MOST, int(AHEAD_SECONDS / max(self._mean, 0.0005)) * self._count)

    def retry_at(self, time: datetime) -> None:
        """A job that failed here is due again at this time of the store's clock.

        No notification is sent at that time.
        """
        self._retries.append(time)

    def capacity(self, held: int) -> int:
        """How many jobs to claim if the worker has `held` claims.

        Returns 0 if so few jobs are not worth a transaction.
        """
        capacity = self._count + self.ahead - held
        return capacity if capacity >= max(1, self.ahead // 2) else 0

    def due(self, now: float, store_now: datetime) -> float:
        """When to claim next: now if `dirty`, otherwise at the next tick or at the next retry."""
        if self.dirty:
            return now
        if not self._retries:
            return self._next_tick
        return min(self._next_tick, now + (min(self._retries) - store_now).total_seconds())

    def record_claim(self, now: float, store_now: datetime, tick: float) -> None:
        """Record that the worker claims now. Without a notification it claims again after `tick` seconds."""
        self._next_tick = now + tick
        self._retries = [time for time in self._retries if time > store_now]
