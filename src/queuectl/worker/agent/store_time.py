"""When things happened by the store's clock, though this host has noted them by its own.

A host's clock may be hours off, or be set while a command runs. So a holder notes beginnings by `boottime` too, which
nobody sets. The distance of a beginning from the moment at which the store was asked gives its time.
"""

import time
from collections.abc import Callable

from queuectl.clock import boottime
from queuectl.store.protocol import Store
from queuectl.worker.protocol import Fields


class StoreTime:
    """The offset between the clocks, measured at each beat. `wall` and `boot` are this host's clocks."""

    def __init__(
        self, store: Store, wall: Callable[[], float] = time.time, boot: Callable[[], float] = boottime
    ) -> None:
        self._store, self._wall, self._boot = store, wall, boot
        self._said: float | None = None
        self._at = 0.0
        self.skew: float | None = None

    def measure(self) -> None:
        """Ask the store for its time. Half of the way there and back counts as the answer's way."""
        before = self._boot()
        said = self._store.now().timestamp()
        self._at = self._boot()
        self._said = said + (self._at - before) / 2
        self.skew = round(self._wall() - self._said, 3)

    def moment(self, born: float | None, wall: float) -> float:
        """Epoch seconds by the store's clock of what this host noted as `born` (boottime; None: unknown) and `wall`."""
        if self._said is None:
            return wall
        return wall - (self.skew or 0.0) if born is None else self._said + born - self._at

    def translate(self, message: Fields) -> Fields:
        """A message of the holder with its times by the store's clock. How long the command took stays as measured."""
        born, told = message.get("born"), dict(message)
        started, finished = message.get("started_at"), message.get("finished_at")
        if started is not None:
            told["started_at"] = self.moment(born, started)
            if finished is not None:
                told["finished_at"] = told["started_at"] + (finished - started)
        if message.get("at") is not None:
            told["at"] = self.moment(born, message["at"])
        return told
