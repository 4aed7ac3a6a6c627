"""The circuit breaker of a worker: while it is open, the worker claims nothing.

A worker on a broken host (a lost disk, a missing program) fails every job within milliseconds and would drain
the queue into the DLQ. So a streak of quick failures trips the breaker. `FailureStreak` then checks whether
other workers succeed at the same time. If they do, this host is at fault and the breaker opens. Otherwise the jobs
are at fault.
"""

from queuectl.service import work
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER

QUICK_FAILURE = 0.25
STREAK = 8
"""The breaker trips when this many different jobs in a row have failed within `QUICK_FAILURE` seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0
HOST_FAULT_PAUSE, HOST_FAULT_LONGEST = 1.0, 30.0


class CircuitBreaker:
    """Counts quick failures. Reads no clock: the caller passes the events and their times.

    open_until  no job is claimed before this time (CLOCK_BOOTTIME)
    reason      why the breaker was opened last, for the registry
    """

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._pause = FIRST_PAUSE
        self._host_fault_pause = HOST_FAULT_PAUSE
        self.open_until = 0.0
        self.reason: str | None = None

    def record(self, job: str, seconds: float | None, succeeded: bool) -> None:
        """Count the end of an attempt of this job. `seconds`: its duration; None if its command never started."""
        self._host_fault_pause = HOST_FAULT_PAUSE
        if succeeded or (seconds or 0.0) > QUICK_FAILURE:
            self._failed.clear()
            self._pause = FIRST_PAUSE if succeeded else self._pause
        else:
            self._failed.add(job)

    @property
    def tripped(self) -> bool:
        """Whether the streak has reached `STREAK` different jobs."""
        return len(self._failed) >= STREAK

    def reset(self) -> None:
        """Forget the streak, because other workers fail too."""
        self._failed.clear()

    def open(self, now: float, reason: str) -> float:
        """Open after a streak, each time for twice as long. Returns the seconds of the pause."""
        seconds, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        self._failed.clear()
        self.open_until, self.reason = now + seconds, reason
        return seconds

    def open_for_host_fault(self, now: float, reason: str) -> float:
        """Open because this host lacks processes, descriptors or memory. Returns the seconds of the pause."""
        seconds = self._host_fault_pause
        self._host_fault_pause = min(seconds * 2, HOST_FAULT_LONGEST)
        self.open_until, self.reason = now + seconds, reason
        return seconds

    def is_closed(self, now: float) -> bool:
        """Whether jobs may be claimed."""
        return now >= self.open_until


class FailureStreak:
    """The duty that decides after a streak of quick failures whether this host is the cause."""

    def __init__(self, context: Context, breaker: CircuitBreaker) -> None:
        self._context, self._breaker = context, breaker

    def due(self, now: float) -> float:
        """Now if the breaker is tripped, otherwise never."""
        return now if self._breaker.tripped else NEVER

    def run(self, now: float) -> None:
        """Open the breaker if other workers succeed; otherwise reset it.

        A queue with an archive keeps the last successes of other workers there. While the archive cannot
        be reached, the worker does not know whether others succeed. It then resets the breaker: a needless pause would
        stop a working queue.
        """
        context = self._context
        known = context.store.background_fault() is None
        if not known or not work.others_succeed(context.store, context.worker_id):
            self._breaker.reset()
            return
        reason = "its jobs failed within milliseconds while others succeed"
        seconds = self._breaker.open(now, reason)
        self._breaker.reason = f"{reason}; resting for {seconds:g} s"
        context.log.note("paused", self._breaker.reason)
