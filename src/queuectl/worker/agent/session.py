"""The session of an agent with its holder and its store: its beginning, outages of the store, and its end.

An agent may die, hang or be replaced at any time while commands continue. So the agent has no data that must survive:
the holder keeps every command, and every result until it is acknowledged; the store keeps every claim. `_adopt`
compares the two.
"""

import contextlib

from queuectl import bootstrap
from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreError, StoreUnusable
from queuectl.service import worker_status
from queuectl.store.protocol import AttemptRef
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.dead_workers import DeadWorkers
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.missing_file import MissingFile
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.renewal import Renewal
from queuectl.worker.agent.results import OpenAttempts, ResultRecorder
from queuectl.worker.agent.shared_settings import SharedSettings
from queuectl.worker.agent.shutdown import Shutdown
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.protocol import Drop, Message, StoreState, Welcome

LEAVE_SECONDS = 5.0
"""Seconds for which an agent continues after `Bye`, to give back claims whose replies were still missing."""


class Session:
    """One connection to a holder, from its `Welcome` message to its `Bye` message."""

    def __init__(
        self,
        context: Context,
        welcome: Welcome,
        recorder: ResultRecorder,
        outputs: OutputShipper,
        attempts: OpenAttempts,
        policy: ClaimPolicy,
        renewal: Renewal,
        settings: SharedSettings,
        heartbeat: Heartbeat,
        shutdown: Shutdown,
        time: StoreTime,
        dead_workers: DeadWorkers,
    ) -> None:
        self._context = context
        self._recorder, self._outputs, self._attempts, self._policy = recorder, outputs, attempts, policy
        self._renewal, self._settings, self._heartbeat = renewal, settings, heartbeat
        self._shutdown, self._time, self._dead_workers = shutdown, time, dead_workers
        self._missing_file = MissingFile(context)
        self._leave_by: float | None = None
        self._known = {item.attempt_id: item for item in welcome.known()}
        context.claims.unadopted = [AttemptRef(item.job_id, item.attempt_id) for item in self._known.values()]

    # the beginning

    def connect(self) -> None:
        """Reach the store for the first time: read the settings, register, and adopt the attempts of an earlier
        agent.

        Repeats this until it succeeds. Messages received meanwhile are kept for the loop, because their claims are
        known only after `_adopt`.
        """
        early: list[tuple[Message, bytes]] = []
        context = self._context
        while not self._try_to_connect():
            context.log.flush()
            context.connection.flush()
            while boottime() < context.health.away_until:
                early += context.connection.receive(context.health.away_until - boottime())
        context.connection.queue(StoreState())
        context.connection.unread(early)

    def _try_to_connect(self) -> bool:
        try:
            bootstrap.refuse_shared(self._context.config["url"])
            self._settings.read()
            self._heartbeat.run(boottime())
            self._heartbeat.keep_name()
            self._adopt()
        except (StoreError, OutcomeUnknown) as fault:
            self.note_fault(fault)
            return False
        return True

    def _adopt(self) -> None:
        """Take over from an earlier agent: compare the claims in the store with the attempts of the holder.

        - Claimed in the store and unknown to the holder: the earlier agent died, or lost the reply, between the claim
          and `start`. The command never started, so the claim is given back uncounted (guarantee G8). Without this
          step the renewal would extend the lease for ever, and the job would never run
          (`tests/e2e/test_guarantees.py`, crashes at `after_claim`).
        - Waiting or running in the holder: becomes a claim of this agent, which renews it and reports its end.
        - Finished in the holder: the `exited` message follows the welcome and is recorded as usual.
        - Waiting in the holder, but claimed by another worker in the store: the holder must not start the attempt, so
          it is dropped.

        Until `_adopt` has succeeded once, all attempts of the holder are renewed as `Claims.unadopted`: an agent that
        starts while the store cannot be reached must not let their leases expire.
        """
        context, known = self._context, self._known
        for job in self._unknown_claims():
            item = known.get(job.attempt_id or "")
            if item is None:
                self._recorder.give_back(job.attempt_id or "", job)
                continue
            self._outputs.expect(job.attempt_id or "", job.spec.output_limit)
            if item.state != "finished":
                context.claims.adopt(job, self._time.convert_start(item))
        context.claims.unadopted = []
        queued = [id for id, item in known.items() if item.state == "queued" and id not in context.claims]
        context.connection.queue(Drop(queued))
        if context.phase != "running":
            self._shutdown.begin("drain")

    def _unknown_claims(self) -> list[Job]:
        """The jobs that are claimed by this worker in the store and unknown to this agent."""
        claimed = worker_status.claimed_by(self._context.store, self._context.worker_id)
        return [job for job in claimed if not self._attempts.has(job.attempt_id or "")]

    # an outage of the store

    def note_fault(self, fault: QueuectlError) -> None:
        """Log a fault of the store, send it to the holder, and pause before the next try."""
        context, attempts = self._context, self._attempts.refs()
        if context.health.failed(permanent=isinstance(fault, StoreUnusable)):
            context.log.note("store", self._missing_file.describe(fault, attempts), error=fault.code)
            context.connection.queue(StoreState(fault.message))
        self._outputs.note_outage()
        self._missing_file.handle(fault, attempts)

    def note_success(self) -> None:
        """Called when all due duties have run without a fault. If an outage has ended, log this, give lost claims back.

        A lost claim is one whose reply was lost in the outage: the store has it, and this agent does not. Reading the
        claims must succeed before the outage counts as over: the round may have run no duty that uses the store.
        """
        context = self._context
        if not context.health.away:
            return
        lost = self._unknown_claims()
        self._heartbeat.keep_name()
        context.health.recovered()
        self._missing_file.found()
        context.connection.queue(StoreState())
        self._renewal.hurry()
        context.log.note("store", "the store is back")
        for job in lost:
            self._recorder.give_back(job.attempt_id or "", job)
        self._policy.dirty = True

    # the end

    def leave(self) -> None:
        """Handle the `Bye` of the holder."""
        self._leave_by = boottime() + LEAVE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether the agent may exit. Before that it withdraws and gives back a claim that arrived after `bye`."""
        if self._leave_by is None:
            return False
        busy = len(self._context.claims) or self._recorder.is_busy()
        return not busy or boottime() >= self._leave_by

    def outlive_holder(self) -> None:
        """Record the attempts as lost, because the holder is dead and its guard ends the commands (guarantee G4).

        If the store fails now, the next worker of this host records them, or their leases expire.
        """
        self._context.log.note("holder", "the holder is gone; recording its attempts as lost")
        with contextlib.suppress(QueuectlError):
            self._recorder.record(None)
            self._dead_workers.recover_dead_worker(self._context.worker_id)
