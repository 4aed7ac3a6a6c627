"""When to take jobs and how many, and whether this worker is fit to take any: two rules about the recent past.

Pure but for their own memory; the agent tells them what happened and when.
"""

from datetime import datetime

AHEAD_SECONDS = 0.05
"""Claimed-ahead work is at most so much: a job taken from here starts hardly later than it would elsewhere."""
AHEAD_MOST = 128
SHORT = 0.025
"""Seconds: only while jobs are shorter is anything claimed ahead."""

QUICK_FAILURE = 0.25
STREAK = 8
"""So many different jobs in a row that failed within `QUICK_FAILURE` seconds make a worker suspect."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0
TROUBLE_PAUSE, TROUBLE_LONGEST = 1.0, 30.0


class ClaimPolicy:
    """When to claim, and how many: free slots, and a few jobs more while they are so short that none waits for it.

    hungry  something changed here since the last claim: a slot fell free, a claim took all it asked for
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._mean = 1.0
        self._next_tick = 0.0
        self._retries: list[datetime] = []
        self.hungry = True

    def ran(self, seconds: float) -> None:
        """A command took so long. One long one ends claiming ahead at once."""
        short = seconds <= SHORT and self._mean <= SHORT
        self._mean = 0.9 * self._mean + 0.1 * seconds if short else seconds

    def retry_at(self, moment: datetime) -> None:
        """A job that failed here is due again then, which no hint will say."""
        self._retries.append(moment)

    @property
    def ahead(self) -> int:
        """How many jobs beyond the slots may wait in the holder."""
        if self._mean > SHORT:
            return 0
        return min(AHEAD_MOST, int(AHEAD_SECONDS / max(self._mean, 0.0005)) * self._count)

    def room(self, held: int) -> int:
        """How many jobs to claim while so many are held: 0, or enough to be worth a transaction."""
        room = self._count + self.ahead - held
        return room if room >= max(1, self.ahead // 2) else 0

    def wakes(self, now: float, store_now: datetime, tick: float) -> bool:
        """Whether to claim for what happened here, or because the poll floor or a retry's time has passed."""
        left = [moment for moment in self._retries if moment > store_now]
        passed = now >= self._next_tick or len(left) < len(self._retries)
        self._retries = left
        if passed:
            self._next_tick = now + tick
        return passed or self.hungry

    def due(self, now: float, store_now: datetime) -> float:
        """When `wakes` will next say so by itself."""
        if self.hungry:
            return now
        return min(
            [self._next_tick, *(now + (moment - store_now).total_seconds() for moment in self._retries)]
        )


class CircuitBreaker:
    """Black-hole detection: a host without its disk fails every job within milliseconds and would drain the queue.

    `suspect` says that a streak of quick failures calls for a look at how others fare; `pause` then rests, each time
    longer.
    """

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._pause = FIRST_PAUSE
        self._trouble = TROUBLE_PAUSE
        self.until = 0.0

    def ended(self, job: str, seconds: float | None, succeeded: bool) -> None:
        """An attempt ended here."""
        self._trouble = TROUBLE_PAUSE
        if succeeded or (seconds or 0.0) > QUICK_FAILURE:
            self._failed.clear()
            self._pause = FIRST_PAUSE if succeeded else self._pause
        else:
            self._failed.add(job)

    @property
    def suspect(self) -> bool:
        """Whether the streak is long enough."""
        return len(self._failed) >= STREAK

    def acquit(self) -> None:
        """Others fare no better: the jobs are bad, not this worker."""
        self._failed.clear()

    def pause(self, now: float) -> float:
        """Rest; answers for how many seconds."""
        seconds, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        self._failed.clear()
        self.until = now + seconds
        return seconds

    def trouble(self, now: float) -> float:
        """A command could not be started for want of processes, files or memory here; answers the pause in seconds."""
        seconds, self._trouble = self._trouble, min(self._trouble * 2, TROUBLE_LONGEST)
        self.until = now + seconds
        return seconds

    def fit(self, now: float) -> bool:
        """Whether jobs may be claimed now."""
        return now >= self.until
