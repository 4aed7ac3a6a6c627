"""An eye on the store's clock: one that is set wrong makes every completed job look old, and retention would delete it.

A jump is seen against the clock of this host that nobody sets (`boottime`). For an hour after it nothing is purged, so
that there is time to set the clock right.
"""

from datetime import datetime

JUMP = 3600.0
"""Seconds: what the store's clock may differ from what it should have become since the last look."""
REST = 3600.0


class ClockWatch:
    """Looks at the store's clock now and then. `jump` is by how many seconds it jumped in the last hour, if it did."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._until = 0.0
        self.jump: float | None = None

    def look(self, store_now: datetime, now: float) -> bool:
        """Compare; whether it has just jumped."""
        before, self._ahead = self._ahead, store_now.timestamp() - now
        if before is not None and abs(self._ahead - before) > JUMP:
            self.jump, self._until = self._ahead - before, now + REST
            return True
        if now >= self._until:
            self.jump = None
        return False
