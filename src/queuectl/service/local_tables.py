"""The part of `LocalQueue` for schedules and hooks. `queue.py` documents the methods."""

from typing import TYPE_CHECKING

from queuectl.config import Settings
from queuectl.service.telling import user_and_host
from queuectl.store.protocol import Store

if TYPE_CHECKING:
    from queuectl.service.hooks.api import Hooks
    from queuectl.service.schedules.api import Schedules


class LocalTables:
    """The schedules and hooks of a store."""

    _store: Store

    def settings(self) -> Settings:
        """The settings of this client."""
        raise NotImplementedError

    def _created(self) -> Store:
        raise NotImplementedError

    def schedules(self) -> "Schedules":
        from queuectl.service.schedules.local import LocalSchedules

        return LocalSchedules(self._store, self._created, self.settings, user_and_host)

    def hooks(self) -> "Hooks":
        from queuectl.service.hooks.local import LocalHooks

        return LocalHooks(self._store, self._created, self.settings, user_and_host)
