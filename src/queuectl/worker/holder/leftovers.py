"""Whose is a process that fell to the holder because its parent has ended.

A command's process that left session and group (setsid, double fork) becomes our child when its parent ends.
Its environment says which attempt it came from; if that was scrubbed, the time of its birth does when only
one can be meant.
"""

import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from queuectl.worker.holder.attempt import Attempt
from queuectl.worker.holder.kill_ladder import View
from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process

UNDECIDED = "undecided"
PATIENCE = 0.5
"""Seconds after which a process that shows no face is taken to have none."""


class Adopted(NamedTuple):
    """The living orphans of an attempt, and whether there are others that may turn out to be."""

    pids: set[int]
    undecided: bool


class Orphans:
    """The adopted processes and whose they are. `ours` are the holder's own: agents and guards."""

    def __init__(self, ours: Collection[int], leaders: Collection[int], running: Collection[Attempt]) -> None:
        self._ours, self._leaders, self._running = ours, leaders, running
        self._offspring = process_table.Offspring()
        self._owner: dict[int, str] = {}
        self._faceless: dict[int, float] = {}
        self._detached_until = 0
        self._me = os.getpid()

    @property
    def ready_at(self) -> float:
        """When `left_by` can answer again after it did not."""
        return self._offspring.ready_at

    def reaped(self, pid: int) -> None:
        """An adopted process has ended."""
        self._owner.pop(pid, None)
        self._faceless.pop(pid, None)

    def left_by(self, attempt: Attempt, now: float) -> bool | None:
        """Whether an attempt whose leader is gone has left an orphan with us; None: too soon to tell."""
        known = {*self._ours, *self._leaders}
        children = self._offspring.since(attempt.pid, now - attempt.born, known)
        if children is None:
            return None
        found = self._those_of(attempt, children, now)
        return True if found.pids else None if found.undecided else False

    def of(self, attempt: Attempt, view: View, now: float) -> Adopted:
        """The orphans of an attempt, as this view shows them."""
        return self._those_of(attempt, view.children(self._me), now)

    def detached(self, now: float) -> None:
        """An attempt that may leave processes has ended: what was born before may be its."""
        self._detached_until = int(now * process_table.TICK) + 1

    def _those_of(self, attempt: Attempt, processes: Iterable[Process], now: float) -> Adopted:
        strangers = set(self._leaders).union(self._ours) - {attempt.pid}
        whose = {
            process.pid: self._whose(process, attempt, now)
            for process in processes
            if process.ppid == self._me and process.pid not in self._leaders and process.sid not in strangers
        }
        return Adopted({pid for pid in whose if whose[pid] == attempt.id}, UNDECIDED in whose.values())

    def _whose(self, process: Process, attempt: Attempt, now: float) -> str | None:
        owner = self._owner.get(process.pid)
        if owner is None:
            owner = self._recognise(process, attempt, now)
            if owner is not None and owner != UNDECIDED:
                self._owner[process.pid] = owner
        return owner

    def _recognise(self, process: Process, attempt: Attempt, now: float) -> str | None:
        if attempt.pid in (process.sid, process.pgid):
            return attempt.id
        if (marked := process_table.marker(process.pid)) is not None:
            return marked
        if process.start <= self._detached_until or process.start < int(attempt.born * process_table.TICK):
            return None
        others = (other for other in self._running if other is not attempt)
        if all(int(other.born * process_table.TICK) > process.start for other in others):
            return attempt.id
        # Asked again: it may have changed its program between the first answer and its having a face.
        return UNDECIDED if self._may_show(process.pid, now) else process_table.marker(process.pid)

    def _may_show(self, pid: int, now: float) -> bool:
        """Whether it has no mark only because its program is just being replaced, which it will not be for long."""
        return process_table.faceless(pid) and now < self._faceless.setdefault(pid, now) + PATIENCE
