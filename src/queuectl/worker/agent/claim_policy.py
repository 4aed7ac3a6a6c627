"""When a worker claims jobs, and how many: its free slots, and a few jobs ahead while jobs are very short."""

from datetime import datetime

AHEAD_SECONDS = 0.05
"""The jobs that are claimed ahead take so long together at most, so none starts much later than it would elsewhere."""
AHEAD_MOST = 128
SHORT = 0.025
"""Jobs are claimed ahead only while they take less than so many seconds."""


class ClaimPolicy:
    """Pure but for its own memory: the caller says what happened and when.

    dirty  a claim may find jobs: since the last one a slot fell free, jobs became ready, or it took all it asked for
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._mean = 1.0
        self._next_tick = 0.0
        self._retries: list[datetime] = []
        self.dirty = True

    def record_run_time(self, seconds: float) -> None:
        """A command took so long. One long command ends claiming ahead at once."""
        short = seconds <= SHORT and self._mean <= SHORT
        self._mean = 0.9 * self._mean + 0.1 * seconds if short else seconds

    def retry_at(self, time: datetime) -> None:
        """A job that failed here is due again at this time of the store's clock. No wake-up announces that."""
        self._retries.append(time)

    @property
    def ahead(self) -> int:
        """How many jobs beyond the slots may wait in the holder."""
        if self._mean > SHORT:
            return 0
        return min(AHEAD_MOST, int(AHEAD_SECONDS / max(self._mean, 0.0005)) * self._count)

    def capacity(self, held: int) -> int:
        """How many jobs to claim while so many are held: 0, or enough to be worth a transaction."""
        ahead = self.ahead
        capacity = self._count + ahead - held
        return capacity if capacity >= max(1, ahead // 2) else 0

    def due(self, now: float, store_now: datetime) -> float:
        """When to claim next: now if dirty, else at the next tick or when the next retry is due."""
        if self.dirty:
            return now
        if not self._retries:
            return self._next_tick
        return min(self._next_tick, now + (min(self._retries) - store_now).total_seconds())

    def record_claim(self, now: float, store_now: datetime, tick: float) -> None:
        """A claim is made now; without a wake-up the next one follows after a tick."""
        self._next_tick = now + tick
        self._retries = [time for time in self._retries if time > store_now]
