"""The duty for hooks: it reads events, and adds a job for each event that matches. Every worker has it.

`service/hooks/delivering.py` says why each event adds one job.
"""

from queuectl.service.archive_outage import tolerate_archive_outage
from queuectl.service.hooks.delivering import Delivering
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER


class ServeHooks:
    """Reads the hooks once a tick, and the events that follow if there are hooks. A worker that drains does not."""

    def __init__(self, context: Context, policy: ClaimPolicy) -> None:
        self._context, self._policy = context, policy
        self._delivering = Delivering(context.store)
        self._noted: frozenset[str] = frozenset()
        self._at = 0.0

    def due(self, _: float) -> float:
        """The next tick, or now if more events wait."""
        return self._at if self._context.phase == "running" else NEVER

    def run(self, now: float) -> None:
        """Decide some events of each hook. The other duties run before the next ones."""
        context = self._context
        self._at = now + context.settings.tick_interval_ms / 1000
        with tolerate_archive_outage(context.store):
            step = self._delivering.step(now)
            self._policy.dirty |= step.jobs > 0
            for note in step.notes:
                if note not in self._noted:
                    context.log.note("hook", note)
            self._noted = frozenset(step.notes)
            if step.more:
                self._at = now
