"""A thread that waits for the store's hint and wakes the agent, but only while the agent would do something with it."""

import threading
from collections.abc import Callable

from queuectl.errors import QueuectlError
from queuectl.store.protocol import Store

LONGEST_WAIT = 5.0
PAUSE_AFTER_FAULT = 1.0


class Hints:
    """`listen(True)` when idle slots wait for work; `changed` is then set, once, when something may have changed."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._listening = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self.changed = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def listen(self, wanted: bool) -> None:
        """Whether hints are wanted from now on."""
        if wanted:
            self._listening.set()
        else:
            self._listening.clear()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped.set()
        self._listening.set()
        self._store.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._listening.wait()
            try:
                hint = self._store.wait(LONGEST_WAIT)
            except QueuectlError:
                hint = False  # the agent meets the same fault and deals with it; a hint is only a hint
                self._stopped.wait(PAUSE_AFTER_FAULT)
            if hint and self._listening.is_set() and not self._stopped.is_set():
                self.changed = True
                self._wake()
