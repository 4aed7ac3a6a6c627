"""The duty of maintenance: recovers claims, unblocks children, deletes old jobs and events. Every worker runs it."""

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.domain.quantity import format_duration
from queuectl.service import figures, maintenance, unreadable
from queuectl.service.archive_outage import tolerate_archive_outage
from queuectl.service.figures import Writer
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.clock_watch import ClockWatch
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.dead_workers import DeadWorkers
from queuectl.worker.agent.results import OpenAttempts
from queuectl.worker.agent.set_aside import SetAsideReport
from queuectl.worker.host.liveness import SUFFIX, keeps_result, runs_here

DEAD_WORKERS_EVERY = 1.0
EXPIRED_EVERY = 2.0
BLOCKED_EVERY = 5.0
PURGE_EVERY = 30.0
MERGE_EVERY = 300.0
FORGET_AFTER = timedelta(hours=1)
"""A worker without a heartbeat for this time and without a claim is removed from the registry."""
RESULT_KEPT_FOR = timedelta(hours=1)
"""For this long after a lease has expired, an undelivered result on this host prevents the recovery of the claim."""
LOGS_KEPT = timedelta(days=30)


class Step(Struct):
    """One step of maintenance, its interval in seconds, and the time of its next run (CLOCK_BOOTTIME)."""

    run: Callable[[], None]
    every: float
    at: float = 0.0


class Maintenance:
    """The duty that runs each step at its interval."""

    def __init__(
        self,
        context: Context,
        policy: ClaimPolicy,
        attempts: OpenAttempts,
        dead_workers: DeadWorkers,
        set_aside: SetAsideReport,
        watch: ClockWatch,
        counted: Writer,
    ) -> None:
        self._figures = counted
        self._context, self._policy, self._attempts = context, policy, attempts
        self._store, self._log = context.store, context.log
        self._dead_workers, self._set_aside, self._watch = dead_workers, set_aside, watch
        self._directory = Path(context.config["directory"])
        self._cursor: str | None = None
        self._background_fault: str | None = None
        self._trim = Step(self._trim_events, PURGE_EVERY, boottime() + PURGE_EVERY)
        self._steps = (
            Step(self._recover_dead, DEAD_WORKERS_EVERY),
            Step(self._recover_expired, EXPIRED_EVERY),
            Step(self._sweep_blocked, BLOCKED_EVERY),
            Step(self._purge, PURGE_EVERY, boottime() + PURGE_EVERY),
            self._trim,
            Step(self._merge_figures, MERGE_EVERY, boottime() + PURGE_EVERY),
        )

    def due(self, _: float) -> float:
        """The time of the next step."""
        return min(step.at for step in self._steps)

    def run(self, now: float) -> None:
        """Run the steps that are due."""
        for step in self._steps:
            if now >= step.at:
                step.at = now + step.every
                step.run()

    def _recover_dead(self) -> None:
        self._log_background_fault()
        self._policy.dirty |= bool(self._dead_workers.recover())

    def _recover_expired(self) -> None:
        """Recover claims with expired leases, if this worker was connected for a whole lease (`store_health.py`)."""
        if not self._context.health.connected_for(self._context.lease_seconds):
            return
        recovered = maintenance.recover_expired(self._store, self._is_ours_or_lives_here)
        for job in recovered:
            self._log.recovered(job)
            self._figures.count_recovered(job)
        self._set_aside.report(expired=True)
        self._policy.dirty |= bool(recovered)

    def _is_ours_or_lives_here(self, job: Job) -> bool:
        """Whether to keep a claim although its lease has expired: this host has better evidence than the lease.

        - The attempt belongs to this worker, which renews its lease soon.
        - The result of the attempt waits in a file on this host. If the attempt were recorded as lost, the job would
          run again
          (`tests/worker/test_maintenance.py::test_a_job_with_a_result_file_is_not_lost_when_its_lease_expires`).
        - The holder or the command of the attempt is alive on this host. A second attempt would run at the same time.
          The lease expired because that holder is stopped, or because the wall clock has jumped
          (`tests/e2e/test_guarantees.py::test_a_stopped_worker_keeps_commands_that_run_on_this_host`).
        """
        lease = job.lease
        if lease is None or self._attempts.has(lease.attempt_id):
            return True
        recent = self._store.now() - lease.until < RESULT_KEPT_FOR
        if recent and keeps_result(self._directory, lease.worker, lease.attempt_id):
            return True
        return runs_here(self._directory, lease.worker, lease.attempt_id)

    def _sweep_blocked(self) -> None:
        def sweep() -> None:
            self._cursor = maintenance.sweep_blocked(self._store, self._cursor)

        self._with_archive(sweep)

    def _purge(self) -> None:
        if self._may_purge():
            self._with_archive(lambda: maintenance.purge_expired(self._store, self._context.settings))
        maintenance.forget_lost(self._store, FORGET_AFTER)
        self._with_archive(lambda: unreadable.forget_repaired(self._store))
        self._delete_old_logs()

    def _trim_events(self) -> None:
        """Delete old events. If more are left, continue in the next round: a fast worker writes thousands a second."""
        if self._may_purge():
            count = maintenance.trim_events(self._store, self._context.settings)
            if count == maintenance.TRIM_STEP * maintenance.TRIM_STEPS:
                self._trim.at = 0.0

    def _merge_figures(self) -> None:
        """Merge the figures of hours that are over. Deletes nothing while a jump of the clock is known."""
        if self._may_purge():
            figures.merge(self._store, self._context.settings.retain_figures)

    def _may_purge(self) -> bool:
        """Whether neither this worker nor another one has noted a jump of the store's clock in the last hour."""
        if self._watch.compare(self._store.now(), boottime()) and self._watch.jump is not None:
            jump = timedelta(seconds=abs(round(self._watch.jump)))
            way = "ahead" if self._watch.jump > 0 else "back"
            said = f"the store's clock jumped {format_duration(jump)} {way}; nothing is purged for an hour"
            self._log.note("clock", said, seconds=self._watch.jump)
        return self._watch.jump is None and not any(w.clock_jump for w in self._store.workers())

    def _with_archive(self, step: Callable[[], object]) -> None:
        """Run a step that needs the archive. Skip the step if the archive cannot be reached, because it can wait."""
        if self._store.background_fault() is None:
            with tolerate_archive_outage(self._store):
                step()

    def _log_background_fault(self) -> None:
        """Log the beginning and the end of a background fault (`background_fault`) of a store that works otherwise."""
        before, self._background_fault = self._background_fault, self._store.background_fault()
        if self._background_fault is not None and before is None:
            self._log.note("archive", f"{self._background_fault}; ended jobs wait in the queue")
        if self._background_fault is None and before is not None:
            self._log.note("archive", "the archive is back")

    def _delete_old_logs(self) -> None:
        """Delete the logs of detached workers that ended long ago."""
        oldest = time.time() - LOGS_KEPT.total_seconds()
        for log in self._directory.glob("*.log"):
            with contextlib.suppress(FileNotFoundError):  # another worker has deleted it
                if log.stat().st_mtime < oldest and not log.with_suffix(SUFFIX).exists():
                    log.unlink()
