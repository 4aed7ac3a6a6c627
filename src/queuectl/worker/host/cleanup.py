"""Ends the commands of a dead holder: its guard at once, and another worker when it finds the slot file.

The commands are not children of these processes, so a pid may belong to another program by now.

Invariant: another program is never killed. So a process belongs to a command only if its start time or
its environment proves it. Only the guard trusts the pids: it reads the processes within milliseconds of the holder's
death, when the pids in the slot file still belong to processes that the holder had not reaped.
Tests: `test_slot_file.py`.
"""

import os
import signal
import time
from collections.abc import Iterator

from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process
from queuectl.worker.host.slot_file import ALLOW_DETACHED, Record


def kill(records: list[Record], *, within: float, at_once: bool = False) -> list[int]:
    """Send KILL to the processes of these commands until two readings of the process table find none.

    Returns the pids that are left after `within` seconds. `at_once`: the holder has just died, so the pids are its
    own.
    """
    if at_once:
        for record in records:
            _kill_group(record.pid)
    deadline = time.monotonic() + within
    empty, found = 0, list[Process]()
    while empty < 2 and records:
        found = list(_members(records, process_table.processes(), at_once))
        empty = 0 if found else empty + 1
        for process in found:
            process_table.signal_process(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        process_table.await_exits(found, deadline - time.monotonic())
    return [process.pid for process in found]


def _kill_group(pid: int) -> None:
    if pid:  # the pid is 0 while a command is spawned; its environment identifies it
        process_table.signal_group(pid, signal.SIGKILL)


def _members(records: list[Record], processes: list[Process], at_once: bool) -> Iterator[Process]:
    """The processes of these commands: leaders, their sessions, and processes whose environment names the attempt."""
    leaders = {
        p.pid
        for p in processes
        for record in records
        if at_once or record.is_leader(p)
        if p.pid == record.pid
    }
    sessions = {record.pid for record in records if at_once and record.pid} | leaders
    markers = {record.attempt_id for record in records if not record.flags & ALLOW_DETACHED}
    for process in processes:
        if process.pid == os.getpid():
            continue
        if (
            process.sid in sessions
            or process.pgid in sessions
            or process_table.marker(process.pid) in markers
        ):
            yield process
