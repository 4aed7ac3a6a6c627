"""The guard: a process that does nothing until the holder is dead, and then ends the holder's commands.

Forked before anything else, in a session of its own. It blocks on a pipe whose other end only the holder has:
the kernel closes it, however the holder dies. A byte before the end is a clean goodbye.
"""

import contextlib
import os
import signal

from queuectl.worker.host import cleanup, process_table
from queuectl.worker.host.slot_file import Slots

WITHIN = 1.0


class Guard:
    """The holder's side: start it, say goodbye to it."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._pipe = -1
        self.pid = 0

    def start(self) -> None:
        """Fork the guard, or the next one. The holder has no threads, so a fork is safe."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe, self.pid = -1, 0
        ours, self._pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _watch(ours, self._slots)
        os.close(ours)

    def dismiss(self) -> None:
        """Let it go without killing: nothing runs any more."""
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):  # dead at this very moment: nothing is left to guard
                os.write(self._pipe, b"\0")
            os.close(self._pipe)
            self._pipe = -1


def _watch(pipe: int, slots: Slots) -> None:
    """The guard's life. Never returns: what it was forked from must not go on in it."""
    status = 1
    try:
        _be_alone(pipe)
        if not os.read(pipe, 1):
            cleanup.kill(slots.records(), within=WITHIN, at_once=True)
        status = 0
    finally:
        os._exit(status)


def _be_alone(pipe: int) -> None:
    """Drop what came with the fork: the holder's lock, sockets, pipes, session and signal handlers."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for descriptor in list(process_table.foreign_descriptors({pipe})):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
            os.close(descriptor)
    process_table.name_process("queuectl-guard")
