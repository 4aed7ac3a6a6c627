"""The guard: a process that waits for the death of the holder and then ends the holder's commands.

The holder forks the guard first, into its own session. The guard reads from a pipe whose other end only the holder
has open. The kernel closes that end after any kind of death. A byte before the end of the pipe dismisses the guard.

Invariant: a command dies within a second of its holder. Otherwise the commands of a killed worker would continue while
the next worker starts the same jobs again (guarantee G4).
Test: `test_the_trees_are_dead_within_a_second_of_the_holder`.
"""

import contextlib
import os
import signal

from queuectl.worker.host import cleanup, process_table
from queuectl.worker.host.slot_file import SlotFile

WITHIN = 1.0


class Guard:
    """The holder's access to its guard: starts and dismisses the guard."""

    def __init__(self, slots: SlotFile) -> None:
        self._slots = slots
        self._pipe = -1
        self.pid = 0

    def start(self) -> None:
        """Fork a guard. The holder has no threads, so a fork is safe."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe, self.pid = -1, 0
        ours, self._pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _watch(ours, self._slots)
        os.close(ours)

    def dismiss(self) -> None:
        """Let the guard exit without killing, because no command runs any more."""
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):  # the guard has just died, and is not needed any more
                os.write(self._pipe, b"\0")
            os.close(self._pipe)
            self._pipe = -1


def _watch(pipe: int, slots: SlotFile) -> None:
    """Run the guard. Never returns: the code of the holder must not continue in the guard."""
    status = 1
    try:
        _isolate(pipe)
        if not os.read(pipe, 1):
            cleanup.kill(slots.records(), within=WITHIN, at_once=True)
        status = 0
    finally:
        os._exit(status)


def _isolate(pipe: int) -> None:
    """Release the lock, sockets, pipes, session and signal handlers that were inherited from the holder."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for descriptor in list(process_table.foreign_descriptors({pipe})):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is already closed
            os.close(descriptor)
    process_table.name_process("queuectl-guard")
