"""Ending what a dead holder left running: by its guard at once, or later by whoever finds its slots file.

These are no children of ours, and a pid alone may be a stranger by now. So later on, a process has to prove
by its birth or by its environment that it is one of the commands' before it is killed. The guard need not
ask: it looks within milliseconds of the holder's death, while every pid in the table is still what the holder
had not reaped.
"""

import os
import signal
import time
from collections.abc import Iterator

from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process
from queuectl.worker.host.slot_file import ALLOW_DETACHED, Record


def kill(records: list[Record], *, within: float, at_once: bool = False) -> list[int]:
    """KILL everything of these commands until two looks in a row find nothing; return what is left after
    `within`.

    `at_once` says that the holder has died this very moment, so that the pids are known to be its own.
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
    if pid:  # 0 is a command that was being spawned: it is found by its mark
        process_table.signal_group(pid, signal.SIGKILL)


def _members(records: list[Record], processes: list[Process], at_once: bool) -> Iterator[Process]:
    """The processes of these commands: leaders, their sessions, and whoever carries their mark."""
    leaders = {
        p.pid
        for p in processes
        for record in records
        if at_once or record.is_leader(p)
        if p.pid == record.pid
    }
    sessions = {record.pid for record in records if at_once and record.pid} | leaders
    marks = {record.attempt_id for record in records if not record.flags & ALLOW_DETACHED}
    for process in processes:
        if process.pid == os.getpid():
            continue
        if process.sid in sessions or process.pgid in sessions or process_table.marker(process.pid) in marks:
            yield process
