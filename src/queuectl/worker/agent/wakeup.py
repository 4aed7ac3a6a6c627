"""Wakes the agent after a change in the store: new work, or an instruction for this worker."""

import threading

from queuectl.domain import topics
from queuectl.errors import QueuectlError
from queuectl.worker.agent.claim_policy import ClaimPolicy
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.monitor import AttemptMonitor
from queuectl.worker.agent.shutdown import Shutdown

LONGEST_WAIT = 5.0
PAUSE_AFTER_FAULT = 1.0


class WakeUps:
    """A thread that waits for notifications of the store, sets `changed`, and wakes the loop.

    `listen(False)` makes the thread drop notifications while the loop has no use for them.
    """

    def __init__(self, context: Context) -> None:
        self._work, self._wake = context.store.subscribe(topics.WORK), context.connection.wake
        self._listening = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wake-ups", daemon=True)
        self.changed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def listen(self, wanted: bool) -> None:
        """Set whether notifications are wanted from now on."""
        if wanted:
            self._listening.set()
        else:
            self._listening.clear()

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self._stopped.set()
        self._listening.set()
        self._work.close()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._listening.wait()
            try:
                notified = self._work.wait(LONGEST_WAIT)
            except QueuectlError:
                notified = False  # the loop gets the same fault and handles it
                self._stopped.wait(PAUSE_AFTER_FAULT)
            if notified and self._listening.is_set() and not self._stopped.is_set():
                self.changed = True
                self._wake()


class FollowWakeUps:
    """The duty after a notification: read the instruction, let the monitor run, and claim."""

    def __init__(
        self,
        context: Context,
        wakeups: WakeUps,
        monitor: AttemptMonitor,
        policy: ClaimPolicy,
        shutdown: Shutdown,
    ) -> None:
        self._context, self._wakeups, self._monitor = context, wakeups, monitor
        self._policy, self._shutdown = policy, shutdown

    def due(self, now: float) -> float:
        """Now if there was a notification, otherwise never."""
        return now if self._wakeups.changed else NEVER

    def run(self, _: float) -> None:
        """Read the instruction, and write nothing. A heartbeat would return the instruction too, but it is a write.

        A write of one worker notifies the others. If a worker answered each notification with a write, two idle
        workers would wake each other without end. Shown by
        `tests/e2e/test_guarantees.py::test_idle_workers_do_not_wake_each_other`.
        """
        self._wakeups.changed = False
        self._monitor.look_next()
        self._policy.dirty = True
        context = self._context
        self._shutdown.obey(context.store.pending_instruction(context.worker_id))
