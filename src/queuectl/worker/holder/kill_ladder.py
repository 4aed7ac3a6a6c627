"""The kill ladder ends the processes of a command. While the holder lives, no other code ends them.

The steps: TERM to the process group and to processes that have left it; CONT, because a stopped process receives TERM
only when it continues; after the grace period KILL; then snapshots until two in a row are empty.

Invariants:

* The exit of the leader does not end the ladder: its children may ignore TERM (`test_process_trees.py`).
* One empty snapshot is not enough: a process that is born while /proc is read may be in no snapshot, but it is in the
  next one (`test_one_empty_search_is_not_enough`).

A ladder never blocks. Each step takes a fresh snapshot of all processes and returns when the next step is due.
"""

import signal

from queuectl.worker.holder.timers import NEVER
from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process

UNKILLABLE_AFTER = 10.0
"""Seconds after the first KILL. A process that lives longer is in an uninterruptible system call (state D)."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25


class Snapshot:
    """All processes at one time. They are read at the first use, and several ladders share one reading.

    A snapshot is created at each end of a command and rarely used, so creating one is cheap.
    """

    def __init__(self) -> None:
        self._processes: list[Process] | None = None
        self._children: dict[int, list[Process]] = {}

    def processes(self) -> list[Process]:
        """Every living process."""
        if self._processes is None:
            self._processes = process_table.processes()
            for process in self._processes:
                self._children.setdefault(process.ppid, []).append(process)
        return self._processes

    def children(self, parent: int) -> list[Process]:
        """The living children of a process."""
        self.processes()
        return self._children.get(parent, [])

    def tree(self, leader: int, leftovers: set[int], leader_alive: bool) -> list[Process]:
        """The leader, its group and session, the leftovers, and all their descendants.

        The pid of a reaped leader is not given out again while its group or session has a member. So if a process has
        that pid now, group and session are another program's and must not be touched.
        """
        everybody = self.processes()
        recycled = not leader_alive and any(p.pid == leader for p in everybody)
        numbers = set() if recycled else {leader}
        found = {
            p.pid: p
            for p in everybody
            if p.pid in leftovers or not numbers.isdisjoint((p.pid, p.pgid, p.sid))
        }
        unvisited = list(found)
        while unvisited:
            for child in self._children.get(unvisited.pop(), ()):
                if child.pid not in found:
                    found[child.pid] = child
                    unvisited.append(child.pid)
        return list(found.values())


class KillLadder:
    """Ends the processes of one command. `done` when none is left, or when nothing more can be done."""

    def __init__(self, leader: int, grace: float, now: float) -> None:
        self._leader = leader
        self._kill_at = now + grace
        self._pause = _FIRST_PAUSE
        self._give_up_at = NEVER
        self._empty_snapshots = 0
        self._terminated: set[int] = set()
        self.next_at = now
        self.seen: set[int] = set()
        """Every process that the ladder has signalled, without the leader."""
        self.unkillable: list[int] = []
        self.done = False

    def kill_now(self, now: float) -> None:
        """End the grace period: the next step sends KILL."""
        self._kill_at = min(self._kill_at, now)
        self.next_at = now

    def look_now(self, now: float) -> None:
        """Make the next step due now, because the leader has ended."""
        self.next_at = now

    def step(
        self, now: float, snapshot: Snapshot, leftovers: set[int], leader_alive: bool, undecided: bool = False
    ) -> None:
        """Take the step that is due. `leader_alive`: not reaped yet, so its pid cannot belong to another program.

        `undecided`: there are processes that may still turn out to be leftovers of this command.
        """
        if now < self.next_at:
            return
        members = snapshot.tree(self._leader, leftovers, leader_alive)
        self.seen.update(p.pid for p in members if p.pid != self._leader)
        if not members and not leader_alive and not self._group_without_list():
            self._empty_snapshots = 0 if undecided else self._empty_snapshots + 1
            self.done = self._empty_snapshots == 2
            self._pause = _FIRST_PAUSE
        else:
            self._empty_snapshots = 0
            self._signal(now, members, leader_alive)
        self.next_at = self._next_step(now)

    def _signal(self, now: float, members: list[Process], leader_alive: bool) -> None:
        if now < self._kill_at:
            self._terminate(members, leader_alive)
            return
        self._kill(members, leader_alive)
        if self._give_up_at == NEVER:
            self._give_up_at = now + UNKILLABLE_AFTER
            self._pause = _FIRST_PAUSE
        if now >= self._give_up_at:
            self.unkillable = [p.pid for p in members] or [self._leader]
            self.done = True

    def _terminate(self, members: list[Process], leader_alive: bool) -> None:
        """TERM and CONT, once to each process."""
        first = not self._terminated
        self._terminated.add(self._leader)
        if first and self._group_is_ours(members, leader_alive):
            process_table.signal_group(self._leader, signal.SIGTERM)
            process_table.signal_group(self._leader, signal.SIGCONT)
            self._terminated.update(p.pid for p in members if p.pgid == self._leader)
        for process in members:
            if process.pid not in self._terminated:
                process_table.signal_process(process, signal.SIGTERM)
                process_table.signal_process(process, signal.SIGCONT)
                self._terminated.add(process.pid)

    def _kill(self, members: list[Process], leader_alive: bool) -> None:
        if self._group_is_ours(members, leader_alive):
            process_table.signal_group(self._leader, signal.SIGKILL)
        for process in members:
            if process.pgid != self._leader:
                process_table.signal_process(process, signal.SIGKILL)

    def _group_is_ours(self, members: list[Process], leader_alive: bool) -> bool:
        # A pid is not given out again while it is the number of a group.
        return leader_alive or any(p.pgid == self._leader for p in members) or self._group_without_list()

    def _group_without_list(self) -> bool:
        """Check only whether the group exists, on a system that cannot list processes (macOS)."""
        return not process_table.LINUX and process_table.group_exists(self._leader)

    def _next_step(self, now: float) -> float:
        pause, self._pause = self._pause, min(self._pause * 1.5, _LONGEST_PAUSE)
        return min(now + pause, max(self._kill_at, now + _FIRST_PAUSE))
