"""Watching the store's clock: a clock that is set ahead makes every completed job look old enough to be purged.

A jump shows against `boottime`, the clock of this host that nobody sets. For an hour after a jump nothing is purged, so
that there is time to set the clock right. Shown by `tests/worker/test_maintenance.py::TestClockJump`.
"""

from datetime import datetime

JUMP = 3600.0
"""Seconds by which the store's clock may differ from what it should show after the time since the last comparison."""
REST = 3600.0


class ClockWatch:
    """Compares the clocks. `jump`: how many seconds the store's clock jumped in the last hour, if it did."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._until = 0.0
        self.jump: float | None = None

    def compare(self, store_now: datetime, now: float) -> bool:
        """Compare; whether the store's clock has just jumped."""
        before, self._ahead = self._ahead, store_now.timestamp() - now
        if before is not None and abs(self._ahead - before) > JUMP:
            self.jump, self._until = self._ahead - before, now + REST
            return True
        if now >= self._until:
            self.jump = None
        return False
