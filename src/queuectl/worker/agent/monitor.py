"""The attempt monitor: finds requested cancels, lost leases, and claimed-ahead jobs that wait for a long job."""

from collections.abc import Sequence
from typing import Literal

from queuectl.clock import boottime
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.service.archive_outage import get_reachable
from queuectl.worker.agent.claims import Claim
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.renewal import Renewed
from queuectl.worker.host import process_table
from queuectl.worker.protocol import Drop, Kill

LOOK_EVERY = 0.4
"""Seconds between two checks. A cancel request reaches its command within this time and one round of the loop."""
QUEUED_TOO_LONG = 0.25
"""Seconds for which a job claimed ahead may wait for a long job before it is given back."""
STOPPED_EVERY, STOPPED_SHARE = 3.0, 100
"""Seconds between two searches for stopped commands, and the minimum pause as a multiple of a search's duration."""
SAVE_START_AFTER = 0.7
"""Seconds after which the pid and the start of a running command are written into the stored job, for `show`."""


class AttemptMonitor:
    """The duty that checks the claims regularly and sends the holder `Kill` and `Drop` messages."""

    def __init__(self, context: Context) -> None:
        self._context, self._store = context, context.store
        self._claims, self._connection = context.claims, context.connection
        self._due = self._stopped_due = 0.0

    def look_next(self) -> None:
        """Check the claims in the next round, because something may have changed."""
        self._due = 0.0

    def due(self, _: float) -> float:
        """The end of the interval while there are claims, otherwise never."""
        return self._due if len(self._claims) else NEVER

    def run(self, now: float) -> None:
        """Check every claim once."""
        self._due = now + LOOK_EVERY
        running = self._claims.running()
        fresh = get_reachable(self._store, [claim.job.id for claim in running])
        for claim in running:
            if (
                claim.job.id in fresh
            ):  # a job is missing if only the archive has it and the archive cannot be reached
                self._look_at(claim, fresh[claim.job.id])
        if len(running) >= self._context.count:
            stuck = self._claims.waiting(longer_than=QUEUED_TOO_LONG)
            self._connection.queue(Drop(stuck))
        self._save_starts()
        if now >= self._stopped_due:
            self._find_stopped(running)

    def take(self, round_: Renewed) -> None:
        """Check the fresh copies of jobs that a renewal has returned, as `run` checks the copies that it reads."""
        fresh = {job.lease.attempt_id: job for job in round_.fresh if job.lease}
        for ref in round_.asked:
            claim = self._claims.get(ref.attempt_id)
            if claim is not None and ref.attempt_id in fresh:
                self._look_at(claim, fresh[ref.attempt_id])
            elif claim is not None:
                # The lease of this claim was not renewed. The attempt may have ended during the renewal, so read
                # the job before the command is killed.
                self.look_next()

    def _look_at(self, claim: Claim, fresh: Job | None) -> None:
        if fresh is None or not lifecycle.holds_lease(fresh, claim.attempt_id):
            self._kill(claim, "fenced")
        elif fresh.cancel_requested:
            self._kill(claim, "cancelled")
        if fresh is not None:
            claim.refresh(fresh)

    def _kill(self, claim: Claim, reason: Literal["cancelled", "fenced"]) -> None:
        if claim.kill_sent != reason:
            claim.kill_sent = reason
            self._connection.queue(Kill(claim.attempt_id, reason))

    def _save_starts(self) -> None:
        late = self._claims.unsaved_starts(longer_than=SAVE_START_AFTER)
        if not late:
            return
        now = self._store.now()
        jobs = [claim.with_start(now) for claim in late]
        for claim, answer in zip(late, self._store.save(jobs), strict=True):
            if answer.job is not None:
                claim.start_saved, claim.job = True, answer.job

    def _find_stopped(self, running: Sequence[Claim]) -> None:
        """Find commands that are stopped by a signal and so do not end by themselves; `worker list` shows them."""
        before = boottime()
        stopped = process_table.stopped({claim.pid for claim in running if claim.pid})
        for claim in running:
            claim.stopped = claim.pid in stopped
        after = boottime()
        self._stopped_due = after + max(STOPPED_EVERY, STOPPED_SHARE * (after - before))
