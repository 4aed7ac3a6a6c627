"""Finds the attempt of a leftover: a process whose parent has ended, so that the holder became its parent.

A process that has left session and group of its command (setsid, double fork) becomes a child of the holder, the
subreaper, when its parent ends. Its environment names its attempt. If the environment was cleared, its start time
decides, provided that only one attempt can match. Decision 6 gives the reasons.
"""

import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from queuectl.worker.holder.attempt import Attempt
from queuectl.worker.holder.kill_ladder import Snapshot
from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process

UNDECIDED = "undecided"
EXEC_PATIENCE = 0.5
"""Seconds to wait for the command line and environment of a process to become readable."""


class Found(NamedTuple):
    """The living leftovers of an attempt, and whether more processes may turn out to belong to it."""

    pids: set[int]
    undecided: bool


class Leftovers:
    """The children of the holder that the holder did not start. `own`: the pids of its agents and guards."""

    def __init__(self, own: Collection[int], leaders: Collection[int], running: Collection[Attempt]) -> None:
        self._own, self._leaders, self._running = own, leaders, running
        self._offspring = process_table.Offspring()
        self._owner: dict[int, str] = {}
        self._unreadable_since: dict[int, float] = {}
        self._detached_until = 0
        self._me = os.getpid()

    @property
    def ready_at(self) -> float:
        """When to call `left_by` again after it returned None."""
        return self._offspring.ready_at

    def reaped(self, pid: int) -> None:
        """Forget a leftover, because it has ended."""
        self._owner.pop(pid, None)
        self._unreadable_since.pop(pid, None)

    def left_by(self, attempt: Attempt, now: float) -> bool | None:
        """Whether an attempt whose leader has ended has left processes. Returns None if this is not known yet."""
        known = {*self._own, *self._leaders}
        children = self._offspring.since(attempt.pid, now - attempt.born, known)
        if children is None:
            return None
        if not children:
            return False
        found = self._those_of(attempt, children, now)
        return True if found.pids else None if found.undecided else False

    def of(self, attempt: Attempt, snapshot: Snapshot, now: float) -> Found:
        """The leftovers of an attempt in this snapshot."""
        return self._those_of(attempt, snapshot.children(self._me), now)

    def may_stay(self, now: float) -> None:
        """Spare the processes that started before `now`: an ended attempt with `allow_detached` may own them."""
        self._detached_until = int(now * process_table.TICK) + 1

    def _those_of(self, attempt: Attempt, processes: Iterable[Process], now: float) -> Found:
        strangers = set(self._leaders).union(self._own) - {attempt.pid}
        owners = {
            process.pid: self._owner_of(process, attempt, now)
            for process in processes
            if process.ppid == self._me and process.pid not in self._leaders and process.sid not in strangers
        }
        return Found({pid for pid in owners if owners[pid] == attempt.id}, UNDECIDED in owners.values())

    def _owner_of(self, process: Process, attempt: Attempt, now: float) -> str | None:
        owner = self._owner.get(process.pid)
        if owner is None:
            owner = self._find_owner(process, attempt, now)
            if owner is not None and owner != UNDECIDED:
                self._owner[process.pid] = owner
        return owner

    def _find_owner(self, process: Process, attempt: Attempt, now: float) -> str | None:
        if attempt.pid in (process.sid, process.pgid):
            return attempt.id
        if (marked := process_table.marker(process.pid)) is not None:
            return marked
        if process.start <= self._detached_until or process.start < int(attempt.born * process_table.TICK):
            return None
        others = (other for other in self._running if other is not attempt)
        if all(int(other.born * process_table.TICK) > process.start for other in others):
            return attempt.id
        # The attempt is read again: the exec may have ended between the first reading and the check for an exec.
        return UNDECIDED if self._is_in_exec(process.pid, now) else process_table.marker(process.pid)

    def _is_in_exec(self, pid: int, now: float) -> bool:
        """Whether the attempt of a process cannot be read because the process is in an exec, which ends soon."""
        since = self._unreadable_since
        return process_table.is_between_programs(pid) and now < since.setdefault(pid, now) + EXEC_PATIENCE
