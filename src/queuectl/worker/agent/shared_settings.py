"""Reads the settings in the store regularly, so that a running worker uses a changed setting."""

from queuectl import config
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.renewal import Renewal


class SharedSettings:
    """Updates the settings of the context."""

    def __init__(self, context: Context, renewal: Renewal) -> None:
        self._context, self._renewal = context, renewal

    def read(self) -> None:
        """Read the settings. If the lease has changed, renew at once: old leases may expire before the next renewal."""
        context = self._context
        stored = {key: entry.value for key, entry in context.store.read_table("settings").items()}
        lease = context.settings.lease
        context.settings = config.resolve({}, {}, context.config["options"], config.stored(stored))
        if context.settings.lease != lease:
            self._renewal.hurry()
