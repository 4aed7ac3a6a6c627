"""Looks through the whole queue now and then, and mends what does not fit: in a thread of every worker."""

import threading
from contextlib import suppress

from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.store.redis import repair
from queuectl.store.redis.connections import Connections

INTERVAL = 3600.0


class Caretaker:
    """Starts with the first beat, so that only workers have one. Several at once do no harm."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now, and once an hour from then on. Twice is once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queuectl-caretaker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the look that is going on."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(StoreError, OutcomeUnknown):  # whoever asks for something hears of it
                self._connections.write(repair.heal)
            self._ended.wait(INTERVAL)
