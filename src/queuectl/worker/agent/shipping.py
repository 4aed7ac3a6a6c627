"""The two duties about output: write it to the store, and log when the store begins or stops refusing it."""

from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.output import OutputShipper


class ShipOutput:
    """Writes the chunks that wait."""

    def __init__(self, context: Context, shipper: OutputShipper, heartbeat: Heartbeat) -> None:
        self._context, self._shipper, self._heartbeat = context, shipper, heartbeat

    def due(self, now: float) -> float:
        """At once while chunks wait; after a fault at `retry_at`, or sooner if the store was away and is back."""
        shipper = self._shipper
        if shipper.fault is not None and not self._context.health.away:
            return shipper.retry_at
        return now if shipper.pending or shipper.fault is not None else NEVER

    def run(self, _: float) -> None:
        """Write. After a failure the heartbeat runs at once: it shows whether the store refuses only output or is
        away.

        This duty raises nothing, so that results are recorded even if the store refuses output.
        """
        if not self._shipper.try_to_write(self._context.connection):
            self._heartbeat.run_next()


class OutputFaultReport:
    """Logs when the store begins to refuse output, and when it stores output again.

    This is the last duty of a round, so it runs only if the store works otherwise. `session.py` logs an outage of the
    whole store.
    """

    def __init__(self, context: Context, shipper: OutputShipper) -> None:
        self._log, self._shipper = context.log, shipper
        self._logged = False

    def due(self, now: float) -> float:
        """At once when the last logged line is no longer true."""
        return now if self._logged is not (self._shipper.fault is not None) else NEVER

    def run(self, _: float) -> None:
        """Log the change."""
        fault = self._shipper.fault
        self._logged = fault is not None
        if fault is None:
            self._log.note("output", "the output of commands is stored again")
        else:
            text = f"the output of commands is not stored: {fault.message}"
            self._log.note("output", text, error=fault.code)
