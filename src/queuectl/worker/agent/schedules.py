"""The duty that fires schedules. Every worker has it; `service/firing.py` says why each instant fires once."""

from datetime import datetime

from queuectl.service.archive_outage import tolerate_archive_outage
from queuectl.store.protocol import Upcoming
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER

LEFT_ALONE_FOR = 60.0
"""Seconds for which an entry is passed over that this worker could not decide."""
BATCH = 100
"""Number of entries that are decided before the other duties run."""


class FireSchedules:
    """Reads the entry that is due first once a tick, and runs again when it is due.

    A worker that drains fires nothing. One that was started with `--drain` fires what was due at its start.
    """

    def __init__(self, context: Context, policy: ClaimPolicy) -> None:
        self._context, self._policy = context, policy
        self._at = 0.0
        self._until: datetime | None = None
        self._left_alone: dict[tuple[str, int], float] = {}

    def due(self, _: float) -> float:
        """The next tick, or the time at which the first entry is due."""
        return self._at if self._context.phase == "running" else NEVER

    def run(self, now: float) -> None:
        """Fire what is due. Without the archive of ended jobs this is tried again in the next tick."""
        self._at = now + self._context.settings.tick_interval_ms / 1000
        with tolerate_archive_outage(self._context.store):
            self._at = self._fire_remaining(now) if self._context.config.get("drain") else self._fire_due(now)

    def _fire_remaining(self, now: float) -> float:
        """Fire all that was due at the start, for a worker that leaves when nothing is left to do."""
        self._until = self._until or self._context.store.now()
        while self._fire(now, self._until):
            pass
        return NEVER

    def _fire_due(self, now: float) -> float:
        """Fire some of what is due now. Returns when to look again."""
        store_now, first = self._context.store.now(), self._first(now, 1)
        if first and first[0].due <= store_now and self._fire(now, store_now):
            return now  # there may be more; the other duties run before that
        if first and first[0].due > store_now:
            return min(self._at, now + (first[0].due - store_now).total_seconds())
        return self._at

    def _fire(self, now: float, until: datetime) -> bool:
        """Decide the first entries that are due until then. Returns whether there were any."""
        due = [each for each in self._first(now, BATCH) if each.due <= until]
        if not due:
            return False
        from queuectl.service import firing  # imported here, because most workers never fire

        context = self._context
        fired = firing.fire(context.store, due)
        for each in fired.left_alone:
            self._left_alone[each.key, each.entry.version] = now + LEFT_ALONE_FOR
        for name, decision in fired.decisions:
            if decision.decision in ("missed", "failed"):
                what = f"{decision.count} missed" if decision.decision == "missed" else decision.reason
                context.log.note("schedule", f"{name}: {what}", schedule=name)
        self._policy.dirty |= fired.jobs > 0
        return True

    def _first(self, now: float, count: int) -> list[Upcoming]:
        """The first entries of schedules, without those that this worker leaves alone. At least one if there is one."""
        self._left_alone = {key: until for key, until in self._left_alone.items() if until > now}
        while True:
            found = self._context.store.upcoming(count)
            wanted = [
                each
                for each in found
                if each.table == "schedules" and (each.key, each.entry.version) not in self._left_alone
            ]
            if wanted or len(found) < count:
                return wanted
            count *= 10
