"""Watches the store's clock: if it is set ahead, every completed job looks old enough to be purged.

The watch compares it with `boottime`, a clock of this host that cannot be set. For an hour after a jump no worker
purges jobs, so that a person has time to correct the clock.
Shown by `tests/worker/test_maintenance.py::TestClockJump`.
"""

from datetime import datetime

JUMP = 3600.0
"""Seconds by which the store's clock may differ from the expected time."""
REST = 3600.0


class ClockWatch:
    """Compares the clocks. `jump`: how many seconds the store's clock jumped in the last hour, if it did."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._until = 0.0
        self.jump: float | None = None

    def compare(self, store_now: datetime, now: float) -> bool:
        """Compare the clocks; return whether the store's clock has jumped since the last call."""
        before, self._ahead = self._ahead, store_now.timestamp() - now
        if before is not None and abs(self._ahead - before) > JUMP:
            self.jump, self._until = self._ahead - before, now + REST
            return True
        if now >= self._until:
            self.jump = None
        return False
