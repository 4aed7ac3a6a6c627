"""Renewal: a thread with its own connection, so that a slow write of the loop does not let a lease expire.

The thread renews all open attempts three times per lease and sends the holder the deadline of each. It passes the
fresh copies of the jobs to the loop, which finds cancel requests and lost leases in them.

The holder kills a command at its deadline, which is before the end of its lease. So no worker starts the job again
while the old command may still live (guarantee G3), even if this agent hangs. With `on_disconnect=keep`, a living
agent whose store cannot be reached *vouches* for its commands: it extends their deadlines by itself, so that an outage
kills no command (guarantee G6). With `stop` the agent does not vouch, and commands end before their leases do. Shown
by `tests/e2e/test_guarantees.py::test_an_outage_longer_than_the_lease_ends_no_command` and
`test_with_on_disconnect_stop_the_command_ends_before_its_lease`.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

from queuectl import bootstrap
from queuectl.clock import boottime
from queuectl.domain.job import Job, Progress
from queuectl.errors import QueuectlError
from queuectl.store.protocol import AttemptRef, Store
from queuectl.worker.agent.connection import HolderGone
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.progress import UnsavedProgress
from queuectl.worker.protocol import LeaseDeadline

PROGRESS_EVERY = 1.0
"""Seconds between two renewals that store a progress, at least."""
PATIENCE_SHARE = 6
RETRY_SHARE = 10
"""Share of the lease that a renewal, and the pause after a failed renewal, may take at most."""


def deadline_of(sent: float, lease: timedelta) -> float:
    """When the holder must kill the commands whose leases were renewed by a request sent at `sent` (CLOCK_BOOTTIME)."""
    seconds = lease.total_seconds()
    return sent + seconds - min(1.0, seconds / 10)


class Renewed(NamedTuple):
    """One renewal: the attempts to renew, and fresh copies of the jobs whose lease this worker still has."""

    asked: list[AttemptRef]
    fresh: list[Job]


class Renewal:
    """The renewing thread. It calls `open_attempts`, which must return a copy of the list."""

    def __init__(self, context: Context, open_attempts: Callable[[], list[AttemptRef]]) -> None:
        self._context, self._connection = context, context.connection
        self._open_attempts = open_attempts
        self._vouches = context.config.get("on_disconnect") != "stop"
        self._stopped = False
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)
        self._store: Store | None = None
        self._rounds: queue.SimpleQueue[Renewed] = queue.SimpleQueue()
        self._fault: BaseException | None = None
        self._all_at = self._progress_at = 0.0
        self.progress = UnsavedProgress()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """Renew now, because the lease setting has changed or an outage of the store is over."""
        self._all_at = 0.0
        self._again.set()

    def report(self, progress: Progress) -> None:
        """Store this progress with the next renewal, within a second."""
        if self.progress.add(progress):
            self._again.set()

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self._stopped = True
        self._again.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def take(self) -> Iterator[Renewed]:
        """The renewals since the last call. If an exception has ended the thread, raises that exception."""
        if self._fault is not None:
            raise self._fault
        while not self._rounds.empty():
            yield self._rounds.get()

    def _run(self) -> None:
        """Run the thread. Any fault ends the agent: without renewals the commands of this worker would run twice."""
        try:
            while not self._stopped:
                self._again.wait(self._round())
                self._again.clear()
        except HolderGone:
            pass  # the loop reads the same socket, gets the same error and exits
        except BaseException as fault:
            self._fault = fault
            self._connection.wake()
        finally:
            if self._store is not None:
                self._store.close()

    def _round(self) -> float:
        """Renew what is due. Returns the seconds until the next renewal.

        All attempts are due three times per lease, and soon after a failure. Between these times attempts with a new
        progress are renewed, at most once per second.
        """
        now, pause = boottime(), NEVER
        may_note = bool(self.progress) and now >= self._progress_at
        if now >= self._all_at:
            self._all_at = NEVER  # `hurry` may set it to 0 during the renewal
            asked = self._open_attempts()
            pause = self._renew_these(self._with_progress(asked, now) if may_note else asked)
        elif may_note:
            asked = self._with_progress(self._open_attempts(), now)
            pause = self._renew_these([ref for ref in asked if ref.progress is not None])
        self._all_at = min(self._all_at, boottime() + pause)
        return max(0.0, min(self._all_at, self._progress_at if self.progress else NEVER) - boottime())

    def _with_progress(self, refs: list[AttemptRef], now: float) -> list[AttemptRef]:
        """These attempts with their new progress. The progress of an attempt that is not open is dropped."""
        new = self.progress.copy()
        self._progress_at = now + PROGRESS_EVERY
        asked = [AttemptRef(ref.job_id, ref.attempt_id, new.pop(ref.attempt_id, None)) for ref in refs]
        for attempt_id in new:
            self.progress.remove(attempt_id)
        return asked

    def _renew_these(self, asked: list[AttemptRef]) -> float:
        """Renew these attempts. Returns the seconds until all attempts must be renewed."""
        lease: timedelta = self._context.settings.lease
        try:
            if asked:
                with self._vouching_meanwhile(asked, lease):
                    self._renew(asked, lease)
        except QueuectlError:
            self._vouch(asked, lease)
            return min(1.0, lease.total_seconds() / RETRY_SHARE)
        return lease.total_seconds() / 3

    def _renew(self, asked: list[AttemptRef], lease: timedelta) -> None:
        """Renew the leases.

        The deadline counts from before the request, so a late reply cannot move it beyond the lease.
        """
        if self._store is None:
            self._store = self._open_store(lease)
        sent = boottime()
        fresh = self._store.renew(self._context.worker_id, asked, lease)
        ours = [job.lease.attempt_id for job in fresh if job.lease]
        for ref in asked:
            if ref.progress is not None:
                self.progress.remove(ref.attempt_id, ref.progress)
        self._tell(ours, deadline_of(sent, lease))
        self._rounds.put(Renewed(asked, fresh))
        self._connection.wake()

    def _open_store(self, lease: timedelta) -> Store:
        """Open the store with a time limit. A longer wait would leave no time to vouch for the commands."""
        context, patience = self._context, lease.total_seconds() / PATIENCE_SHARE
        return bootstrap.open_store(context.config["url"], context.settings, patience, create=False)

    @contextmanager
    def _vouching_meanwhile(self, asked: list[AttemptRef], lease: timedelta) -> Iterator[None]:
        """Vouch for the commands while a renewal hangs, so that a slow store kills no command."""
        answered = threading.Event()

        def vouch() -> None:
            with suppress(HolderGone):  # the renewing thread gets the same error
                while not answered.wait(lease.total_seconds() / PATIENCE_SHARE):
                    self._vouch(asked, lease)

        thread = threading.Thread(target=vouch, name="renewal-vouching", daemon=True)
        thread.start()
        try:
            yield
        finally:
            answered.set()
            thread.join()

    def _vouch(self, asked: list[AttemptRef], lease: timedelta) -> None:
        if self._vouches and asked:
            self._tell([ref.attempt_id for ref in asked], deadline_of(boottime(), lease))

    def _tell(self, attempt_ids: list[str], deadline: float) -> None:
        self._connection.send(LeaseDeadline(deadline, attempt_ids))
