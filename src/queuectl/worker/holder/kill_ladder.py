"""How a command's process tree ends: the one place that knows.

TERM to the group and to whoever left it, CONT so that a stopped process can hear it, the grace period, KILL,
then looking again until two looks in a row find nothing. The leader's own exit ends none of this: its
children may have ignored TERM. A ladder never blocks. It is stepped with a fresh view of all processes and
says when it wants the next one.
"""

import signal
from collections import defaultdict

from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process

UNKILLABLE_AFTER = 10.0
"""Seconds after the first KILL; what is still there sits in the kernel (state D), out of a signal's reach."""

_FIRST_LOOK, _SLOWEST_LOOK = 0.005, 0.25


class View:
    """All processes at one moment, read when first asked for, so that many ladders share one reading."""

    def __init__(self) -> None:
        self._processes: list[Process] | None = None
        self._children: dict[int, list[Process]] = defaultdict(list)

    def processes(self) -> list[Process]:
        """Every living process."""
        if self._processes is None:
            self._processes = process_table.processes()
            for process in self._processes:
                self._children[process.ppid].append(process)
        return self._processes

    def children(self, parent: int) -> list[Process]:
        """The living children of a process."""
        self.processes()
        return self._children.get(parent, [])

    def tree(self, leader: int, adopted: set[int], leader_alive: bool) -> list[Process]:
        """Leader, its group and session, the adopted orphans, and all their descendants.

        A reaped leader's pid stays unused while its group or session has a member. So if it is in use, group
        and session are a stranger's by now.
        """
        everybody = self.processes()
        recycled = not leader_alive and any(p.pid == leader for p in everybody)
        numbers = set() if recycled else {leader}
        found = {
            p.pid: p for p in everybody if p.pid in adopted or not numbers.isdisjoint((p.pid, p.pgid, p.sid))
        }
        unvisited = list(found)
        while unvisited:
            for child in self._children.get(unvisited.pop(), ()):
                if child.pid not in found:
                    found[child.pid] = child
                    unvisited.append(child.pid)
        return list(found.values())


class Ladder:
    """The ending of one tree. `done` when it is empty, or when nothing more can be done about it."""

    def __init__(self, leader: int, grace: float, now: float) -> None:
        self._leader = leader
        self._kill_at = now + grace
        self._pause = _FIRST_LOOK
        self._give_up_at = float("inf")
        self._empty_looks = 0
        self._asked: set[int] = set()
        self.next_at = now
        self.seen: set[int] = set()
        self.unkillable: list[int] = []
        self.done = False

    def hasten(self, now: float) -> None:
        """No more grace: KILL with the next step."""
        self._kill_at = min(self._kill_at, now)
        self.next_at = now

    def step(
        self, now: float, view: View, adopted: set[int], leader_alive: bool, undecided: bool = False
    ) -> None:
        """Do what is due. `leader_alive` means not reaped yet: only then is its pid surely its own.

        `undecided` says that there are orphans of which it is not known yet whether they are adopted too.
        """
        if now < self.next_at:
            return
        members = view.tree(self._leader, adopted, leader_alive)
        self.seen.update(p.pid for p in members if p.pid != self._leader)
        if not members and not leader_alive and not self._unseen_group():
            self._empty_looks = 0 if undecided else self._empty_looks + 1
            self.done = self._empty_looks == 2
            self._pause = _FIRST_LOOK
        else:
            self._empty_looks = 0
            self._signal(now, members, leader_alive)
        self.next_at = self._next_look(now)

    def _signal(self, now: float, members: list[Process], leader_alive: bool) -> None:
        if now < self._kill_at:
            self._ask(members, leader_alive)
            return
        self._kill(members, leader_alive)
        if self._give_up_at == float("inf"):
            self._give_up_at = now + UNKILLABLE_AFTER
            self._pause = _FIRST_LOOK
        if now >= self._give_up_at:
            self.unkillable = [p.pid for p in members] or [self._leader]
            self.done = True

    def _ask(self, members: list[Process], leader_alive: bool) -> None:
        """TERM, then CONT: a stopped process keeps TERM pending until it goes on. Once to each."""
        first = not self._asked
        self._asked.add(self._leader)
        if first and self._group_is_ours(members, leader_alive):
            process_table.signal_group(self._leader, signal.SIGTERM)
            process_table.signal_group(self._leader, signal.SIGCONT)
            self._asked.update(p.pid for p in members if p.pgid == self._leader)
        for process in members:
            if process.pid not in self._asked:
                process_table.signal_process(process, signal.SIGTERM)
                process_table.signal_process(process, signal.SIGCONT)
                self._asked.add(process.pid)

    def _kill(self, members: list[Process], leader_alive: bool) -> None:
        if self._group_is_ours(members, leader_alive):
            process_table.signal_group(self._leader, signal.SIGKILL)
        for process in members:
            if process.pgid != self._leader:
                process_table.signal_process(process, signal.SIGKILL)

    def _group_is_ours(self, members: list[Process], leader_alive: bool) -> bool:
        # A pid is not given out again while a group has it for its number.
        return leader_alive or any(p.pgid == self._leader for p in members) or self._unseen_group()

    def _unseen_group(self) -> bool:
        """Where processes cannot be listed, the group is all there is to ask about."""
        return not process_table.LINUX and process_table.group_exists(self._leader)

    def _next_look(self, now: float) -> float:
        pause, self._pause = self._pause, min(self._pause * 1.5, _SLOWEST_LOOK)
        return min(now + pause, max(self._kill_at, now + _FIRST_LOOK))
