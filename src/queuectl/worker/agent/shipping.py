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
        """At once while chunks wait; after a fault a little later, unless the whole store was away and is tried now."""
        shipper = self._shipper
        if shipper.fault is not None and not self._context.health.away:
            return shipper.retry_at
        return now if shipper.pending or shipper.fault is not None else NEVER

    def run(self, _: float) -> None:
        """Write. After a failure the heartbeat runs at once: it shows whether the store refuses only output or is away.

        This duty never raises, so that a store that refuses output keeps no result from being recorded.
        """
        if not self._shipper.try_to_write(self._context.connection):
            self._heartbeat.run_next()


class OutputFaultReport:
    """Logs when output begins to be refused, and when it is stored again.

    This is the last duty of a round: it is reached only if the store works otherwise. An outage of the whole store is
    logged as such (`session.py`).
    """

    def __init__(self, context: Context, shipper: OutputShipper) -> None:
        self._log, self._shipper = context.log, shipper
        self._logged = False

    def due(self, now: float) -> float:
        """When what was logged last is no longer true."""
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
