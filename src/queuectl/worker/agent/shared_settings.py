"""The settings that are kept in the store: read again and again, so that a change reaches a worker that runs."""

from queuectl import config
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.renewal import Renewal


class SharedSettings:
    """Brings the settings of the context up to date."""

    def __init__(self, context: Context, renewal: Renewal) -> None:
        self._context, self._renewal = context, renewal

    def read(self) -> None:
        """Read them now. A new lease is renewed at once, because the old one may end before the next renewal."""
        context = self._context
        stored = {key: entry.value for key, entry in context.store.read_table("settings").items()}
        lease = context.settings.lease
        context.settings = config.resolve({}, {}, context.config["options"], config.stored(stored))
        if context.settings.lease != lease:
            self._renewal.hurry()
