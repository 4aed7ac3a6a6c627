"""Two duties for output: one writes it to the store, the other logs when the store begins or stops refusing it."""

from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.output import OutputShipper


class ShipOutput:
    """The duty that writes the waiting chunks."""

    def __init__(self, context: Context, shipper: OutputShipper, heartbeat: Heartbeat) -> None:
        self._context, self._shipper, self._heartbeat = context, shipper, heartbeat

    def due(self, now: float) -> float:
        """Now while chunks wait. After a fault: `retry_at`, or sooner if an outage of the store has ended."""
        shipper = self._shipper
        if shipper.fault is not None and not self._context.health.away:
            return shipper.retry_at
        return now if shipper.pending or shipper.fault is not None else NEVER

    def run(self, _: float) -> None:
        """Write the chunks. After a failure send a heartbeat, which shows whether the store refuses only output.

        This duty raises no error, so that results are recorded even if the store refuses output.
        """
        if not self._shipper.try_to_write(self._context.connection):
            self._heartbeat.run_next()


class OutputFaultReport:
    """Logs when the store begins to refuse output, and when it stores output again.

    A store error ends a round. This duty runs last, so it runs only if all other calls of the store succeeded.
    `session.py` logs an outage of the whole store.
    """

    def __init__(self, context: Context, shipper: OutputShipper) -> None:
        self._log, self._shipper = context.log, shipper
        self._logged = False

    def due(self, now: float) -> float:
        """Now if the state has changed since the last logged line, otherwise never."""
        return now if self._logged is not (self._shipper.fault is not None) else NEVER

    def run(self, _: float) -> None:
        """Log whether output is stored or refused."""
        fault = self._shipper.fault
        self._logged = fault is not None
        if fault is None:
            self._log.note("output", "the output of commands is stored again")
        else:
            text = f"the output of commands is not stored: {fault.message}"
            self._log.note("output", text, error=fault.code)
