"""Whose is a process that fell to the holder because its parent has ended.

A command's process that left session and group (setsid, double fork) becomes our child when its parent ends.
Its environment says which attempt it came from; if that was scrubbed, the time of its birth does when only
one can be meant.
"""

import os
from collections.abc import Collection, Iterable

from queuectl.worker import kernel
from queuectl.worker.attempt import Attempt
from queuectl.worker.kernel import Process
from queuectl.worker.tree import View


class Orphans:
    """The adopted processes and whose they are. `ours` are the holder's own: agents and guards."""

    def __init__(self, ours: Collection[int], leaders: Collection[int], running: Collection[Attempt]) -> None:
        self._ours, self._leaders, self._running = ours, leaders, running
        self._offspring = kernel.Offspring()
        self._owner: dict[int, str] = {}
        self._detached_until = 0
        self._me = os.getpid()

    @property
    def ready_at(self) -> float:
        """When `left_by` can answer again after it did not."""
        return self._offspring.ready_at

    def reaped(self, pid: int) -> None:
        """An adopted process has ended."""
        self._owner.pop(pid, None)

    def left_by(self, attempt: Attempt, now: float) -> bool | None:
        """Whether an attempt whose leader is gone has left an orphan with us; None: too soon to tell."""
        pids = self._offspring.since(attempt.pid, now - attempt.born)
        if pids is None:
            return None
        unknown = [pid for pid in pids if pid not in self._ours and pid not in self._leaders]
        if not unknown:
            return False
        found = [process for process in map(kernel.look, unknown) if process]
        return bool(self._those_of(attempt, found))

    def of(self, attempt: Attempt, view: View) -> set[int]:
        """The orphans of an attempt, as this view shows them."""
        return self._those_of(attempt, view.children(self._me))

    def detached(self, now: float) -> None:
        """An attempt that may leave processes has ended: what was born before may be its."""
        self._detached_until = int(now * kernel.TICK) + 1

    def _those_of(self, attempt: Attempt, processes: Iterable[Process]) -> set[int]:
        strangers = set(self._leaders).union(self._ours) - {attempt.pid}
        return {
            process.pid
            for process in processes
            if process.ppid == self._me
            and process.state not in "ZX"
            and process.pid not in self._leaders
            and process.sid not in strangers
            and self._whose(process, attempt) == attempt.id
        }

    def _whose(self, process: Process, attempt: Attempt) -> str | None:
        owner = self._owner.get(process.pid)
        if owner is None:
            owner = self._recognise(process, attempt)
            if owner is not None:
                self._owner[process.pid] = owner
        return owner

    def _recognise(self, process: Process, attempt: Attempt) -> str | None:
        if attempt.pid in (process.sid, process.pgid):
            return attempt.id
        if (marked := kernel.marker(process.pid)) is not None:
            return marked
        if process.start <= self._detached_until or process.start < int(attempt.born * kernel.TICK):
            return None
        others = (other for other in self._running if other is not attempt)
        alone = all(int(other.born * kernel.TICK) > process.start for other in others)
        return attempt.id if alone else None
