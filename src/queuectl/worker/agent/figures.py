"""The duty that stores the figures of this agent (`service/figures.py`)."""

import contextlib

from queuectl.clock import boottime
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.service.figures import WRITE_EVERY, Writer
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER


class WriteFigures:
    """Writes what was counted, at most once in `WRITE_EVERY` seconds. An idle worker writes nothing."""

    def __init__(self, context: Context, writer: Writer) -> None:
        self._context, self._writer = context, writer
        self._at = boottime() + WRITE_EVERY

    def due(self, _: float) -> float:
        """The end of the interval, if something was counted."""
        return self._at if self._writer.is_waiting else NEVER

    def run(self, now: float) -> None:
        """Write what was counted."""
        self._at = now + WRITE_EVERY
        self._writer.write(self._context.store)

    def finish(self) -> None:
        """Write the rest before the agent ends. If the store does not answer, these figures are lost."""
        if self._writer.is_waiting and not self._context.health.away:
            with contextlib.suppress(StoreError, OutcomeUnknown):
                self._writer.write(self._context.store)
