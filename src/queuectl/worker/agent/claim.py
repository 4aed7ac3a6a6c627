"""The duty that claims due jobs and sends them to the holder."""

from queuectl import crashpoint
from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.service import work
from queuectl.worker.agent.circuit_breaker import CircuitBreaker
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.renewal import deadline_of
from queuectl.worker.agent.results import ResultRecorder
from queuectl.worker.agent.set_aside import SetAsideReport
from queuectl.worker.agent.shutdown import Shutdown
from queuectl.worker.agent.translate import start_message
from queuectl.worker.protocol import Drain


class ClaimJobs:
    """Claims jobs for the free slots. While jobs are very short, it also claims a few jobs ahead."""

    def __init__(
        self,
        context: Context,
        policy: ClaimPolicy,
        breaker: CircuitBreaker,
        outputs: OutputShipper,
        recorder: ResultRecorder,
        set_aside: SetAsideReport,
        shutdown: Shutdown,
    ) -> None:
        self._context, self._policy, self._breaker = context, policy, breaker
        self._outputs, self._recorder = outputs, recorder
        self._set_aside, self._shutdown = set_aside, shutdown

    @property
    def wants_wakeups(self) -> bool:
        """Whether a change in the store should wake the loop.

        A worker that runs very short jobs in all slots claims every few milliseconds anyway, so wake-ups would only
        cost time.
        """
        context = self._context
        return (context.phase == "running" and context.has_free_slot) or not self._policy.ahead

    def due(self, now: float) -> float:
        """The time that the policy decides, but not before the breaker closes. Claiming ahead never wakes the loop."""
        context = self._context
        if context.phase != "running" or not self._policy.capacity(len(context.claims)):
            return NEVER
        at = now if self._policy.dirty else self._policy.due(now, context.store.now())
        if not self._breaker.is_closed(now):
            at = max(at, self._breaker.open_until)
        return at if at <= now or context.has_free_slot else NEVER

    def run(self, now: float) -> None:
        """Claim jobs and start them. The lease counts from before the request, so a late reply does not extend it."""
        context, policy = self._context, self._policy
        policy.record_claim(now, context.store.now(), context.settings.tick_interval_ms / 1000)
        wanted = policy.capacity(len(context.claims))
        sent = boottime()
        lease = context.settings.lease
        jobs = context.store.claim(context.worker_id, context.queues, wanted, lease, tell=True)
        crashpoint.reach("after_claim")
        damaged = (
            self._set_aside.report()
        )  # if so, claim again soon: other jobs may follow the unreadable ones
        policy.dirty = len(jobs) == wanted or damaged
        self._start(jobs, deadline_of(sent, lease))
        if not jobs and context.config.get("drain"):
            self._drain_if_done()

    def _start(self, jobs: list[Job], deadline: float) -> None:
        context = self._context
        for job in jobs:
            claim = context.claims.add(job)
            self._outputs.expect(claim.attempt_id, job.spec.output_limit)
            message, stdin = start_message(job, deadline)
            context.connection.queue(message, stdin)

    def _drain_if_done(self) -> None:
        """`worker start --drain`: exit when no job is due, runs or waits for a retry. Paused queues do not count."""
        context = self._context
        if len(context.claims) or self._recorder.is_busy():
            return
        if work.is_left(context.store, context.queues):
            return
        context.log.note("idle", "nothing is left to do; leaving")
        context.connection.queue(Drain(done=True))
        self._shutdown.begin("drain")
