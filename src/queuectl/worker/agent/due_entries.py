"""The duty for entries of the shared tables that are due: it fires schedules, and carries on operations.

Every worker has it. `service/firing.py` says why each instant fires once, and `service/carrying.py` why each step of an
operation is taken once.
"""

from collections.abc import Callable, Mapping, Sequence
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


class DueEntries:
    """Reads the entry that is due first once a tick, and runs again when it is due.

    The other duties run between two steps of an operation. A worker that drains begins nothing. One that was started
    with `--drain` fires what was due at its start, and takes no step of an operation: it would stay for all of them.
    """

    def __init__(self, context: Context, policy: ClaimPolicy) -> None:
        self._context, self._policy = context, policy
        self._at = 0.0
        self._until: datetime | None = None
        self._left_alone: dict[tuple[str, str, int], float] = {}
        self._acts: Mapping[str, Callable[[Sequence[Upcoming]], Sequence[Upcoming]]] = {
            "schedules": self._fire,
            "operations": self._carry,
        }
        if context.config.get("drain"):
            self._acts = {"schedules": self._fire}

    def due(self, _: float) -> float:
        """The next tick, or the time at which the first entry is due."""
        return self._at if self._context.phase == "running" else NEVER

    def run(self, now: float) -> None:
        """Act on what is due. Without the archive of ended jobs this is tried again in the next tick."""
        self._at = now + self._context.settings.tick_interval_ms / 1000
        with tolerate_archive_outage(self._context.store):
            self._at = self._remaining(now) if self._context.config.get("drain") else self._due_now(now)

    def _remaining(self, now: float) -> float:
        """Act on all that was due at the start, for a worker that leaves when nothing is left to do."""
        self._until = self._until or self._context.store.now()
        while self._act(now, self._until):
            pass
        return NEVER

    def _due_now(self, now: float) -> float:
        """Act on some of what is due now. Returns when to look again."""
        store_now, first = self._context.store.now(), self._first(now, 1)
        if first and first[0].due <= store_now and self._act(now, store_now):
            return now  # there may be more; the other duties run before that
        if first and first[0].due > store_now:
            return min(self._at, now + (first[0].due - store_now).total_seconds())
        return self._at

    def _act(self, now: float, until: datetime) -> bool:
        """Act on the first entries that are due until then. Returns whether there were any."""
        due = [each for each in self._first(now, BATCH) if each.due <= until]
        for table, act in self._acts.items():
            if found := [each for each in due if each.table == table]:
                for each in act(found):
                    self._left_alone[table, each.key, each.entry.version] = now + LEFT_ALONE_FOR
        return bool(due)

    def _fire(self, due: Sequence[Upcoming]) -> Sequence[Upcoming]:
        """Fire schedules. Returns those that this worker leaves alone."""
        from queuectl.service import firing  # imported here, because most workers never fire

        fired = firing.fire(self._context.store, due)
        for name, decision in fired.decisions:
            if decision.decision in ("missed", "failed"):
                what = f"{decision.count} missed" if decision.decision == "missed" else decision.reason
                self._context.log.note("schedule", f"{name}: {what}", schedule=name)
        self._policy.dirty |= fired.jobs > 0
        return fired.left_alone

    def _carry(self, due: Sequence[Upcoming]) -> Sequence[Upcoming]:
        """Take one step of the operation that is due first. Returns it if this worker leaves it alone."""
        from queuectl.service import carrying

        [first, *_] = due
        carried = carrying.carry(self._context.store, first.key, first.entry)
        self._policy.dirty = True  # a step may have made jobs due
        return [] if carried else [first]

    def _first(self, now: float, count: int) -> list[Upcoming]:
        """The first entries, without those that this worker leaves alone. At least one if there is one."""
        self._left_alone = {key: until for key, until in self._left_alone.items() if until > now}
        while True:
            found = self._context.store.upcoming(count)
            wanted = [
                each
                for each in found
                if each.table in self._acts
                and (each.table, each.key, each.entry.version) not in self._left_alone
            ]
            if wanted or len(found) < count:
                return wanted
            count *= 10
