"""The duty that records results: immediately, or in batches while many very short jobs end."""

from queuectl.worker.agent.circuit_breaker import CircuitBreaker
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.results import ResultRecorder

GATHER = 64
GATHER_SECONDS = 0.04
"""While very short jobs end, results wait until there are `GATHER` of them or the first has waited this long."""


class RecordResults:
    """Records results, and passes them to the claim policy and the circuit breaker."""

    def __init__(
        self,
        context: Context,
        recorder: ResultRecorder,
        outputs: OutputShipper,
        policy: ClaimPolicy,
        breaker: CircuitBreaker,
    ) -> None:
        self._context, self._recorder, self._outputs = context, recorder, outputs
        self._policy, self._breaker = policy, breaker

    def due(self, now: float) -> float:
        """Now, unless more results follow within milliseconds: one commit (an fsync) is then enough for all."""
        recorder, context = self._recorder, self._context
        if not recorder.is_busy(self._outputs.unwritten()):
            return recorder.retry_at
        more_follow = self._policy.ahead and len(context.claims) and context.phase == "running"
        if not more_follow or not 0 < recorder.waiting < GATHER:
            return now
        return recorder.since + GATHER_SECONDS

    def run(self, _: float) -> None:
        """Record the waiting results."""
        policy = self._policy
        for ended, after in self._recorder.record(self._context.connection, self._outputs.unwritten()):
            self._outputs.forget(ended.attempt_id)
            if ended.seconds is not None:
                policy.record_run_time(ended.seconds)
            self._breaker.record(after.id, ended.seconds, after.state == "completed")
            if after.state == "failed":
                policy.retry_at(after.run_at)
            policy.dirty = True
