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
from queuectl.domain.job import Job
from queuectl.errors import QueuectlError
from queuectl.store.protocol import AttemptRef, Store
from queuectl.worker.agent.connection import HolderGone
from queuectl.worker.agent.context import Context
from queuectl.worker.protocol import LeaseDeadline

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

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """Renew now, because the lease setting has changed or an outage of the store is over."""
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
        """Renew once. Returns the seconds until the next renewal, which is soon after a failure."""
        lease: timedelta = self._context.settings.lease
        asked = self._open_attempts()
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
