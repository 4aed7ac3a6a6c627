"""Renewal: a thread and a connection of its own, so that no slow write of the agent lets a lease run out.

It renews everything held every third of a lease, tells the holder until when it may run on, and hands the fresh copies
to the agent, which learns from them of cancel requests and of attempts that are no longer its own.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.errors import QueuectlError
from queuectl.store.protocol import AttemptRef, Store
from queuectl.worker.agent.connection import Connection, HolderGone

PATIENCE_SHARE = 6
RETRY_SHARE = 10
"""A renewal may take a sixth of the lease; after a failed one the next comes after a tenth: three within each lease."""


def deadline_of(sent: float, lease: timedelta) -> float:
    """Until when a holder may let run what a request sent at `sent` renewed (CLOCK_BOOTTIME): less than the lease."""
    seconds = lease.total_seconds()
    return sent + seconds - min(1.0, seconds / 10)


class Renewed:
    """One round: what was asked, and the fresh copies of what is still ours."""

    def __init__(self, asked: list[AttemptRef], fresh: list[Job]) -> None:
        self.asked = asked
        self.fresh = fresh


class Renewal:
    """The renewing thread. `held` is called from it and must answer a snapshot."""

    def __init__(
        self,
        open_store: Callable[[float], Store],
        worker: str,
        link: Connection,
        held: Callable[[], Iterable[AttemptRef]],
        lease: Callable[[], timedelta],
        vouch: bool,
    ) -> None:
        self._open_store = open_store
        self._worker = worker
        self._link = link
        self._held = held
        self._lease = lease
        self._vouch = vouch
        self._stopped = False
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._store: Store | None = None
        self.rounds: queue.SimpleQueue[Renewed] = queue.SimpleQueue()
        self.fault: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Renew now: the lease has become another, or the store is there after an absence."""
        self._again.set()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped = True
        self._again.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._again.wait(self._round())
                self._again.clear()
        except HolderGone:
            pass  # the agent reads the same line and leaves
        except (
            BaseException
        ) as fault:  # a worker that lives without renewing is the worst kind: the agent ends
            self.fault = fault
            self._link.wake()
        finally:
            if self._store is not None:
                self._store.close()

    def _round(self) -> float:
        """Renew once; answers the seconds until the next time."""
        lease, asked = self._lease(), list(self._held())
        try:
            if asked:
                with self._speaking_meanwhile(asked, lease):
                    self._renew(asked, lease)
        except QueuectlError:  # away, or an unknown result: the next round asks again
            self._speak_for(asked, lease)
            return min(1.0, lease.total_seconds() / RETRY_SHARE)
        return lease.total_seconds() / 3

    def _renew(self, asked: list[AttemptRef], lease: timedelta) -> None:
        if self._store is None:
            # A renewal that waits longer would leave no time to vouch for the commands within the lease.
            self._store = self._open_store(lease.total_seconds() / PATIENCE_SHARE)
        sent = boottime()
        fresh = self._store.renew(self._worker, asked, lease)
        ours = [job.lease.attempt_id for job in fresh if job.lease]
        self._tell(ours, deadline_of(sent, lease))
        self.rounds.put(Renewed(asked, fresh))
        self._link.wake()

    @contextmanager
    def _speaking_meanwhile(self, asked: list[AttemptRef], lease: timedelta) -> Iterator[None]:
        """A store that is slow to fail (a connection that hangs) is not to cost a command its life either."""
        answered = threading.Event()

        def speak() -> None:
            with suppress(HolderGone):  # the renewing thread finds out as well
                while not answered.wait(lease.total_seconds() / PATIENCE_SHARE):
                    self._speak_for(asked, lease)

        voice = threading.Thread(target=speak, name="leases-meanwhile", daemon=True)
        voice.start()
        try:
            yield
        finally:
            answered.set()
            voice.join()

    def _speak_for(self, asked: list[AttemptRef], lease: timedelta) -> None:
        """The store is away. With on_disconnect=keep a living agent vouches for its commands: none is killed."""
        if self._vouch and asked:
            self._tell([held.attempt_id for held in asked], deadline_of(boottime(), lease))

    def _tell(self, attempts: list[str], deadline: float) -> None:
        message: dict[str, Any] = {"type": "lease", "deadline": deadline, "attempt_ids": attempts}
        self._link.send(message)
