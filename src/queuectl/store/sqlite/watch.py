"""Watches one file with inotify, and reports writes to it."""

import os

from queuectl.store.driver.self_pipe import drain

IN_MODIFY = 0x2


class Watch:
    """An inotify watch of one file.

    It opens no descriptor of the file, because closing one would drop SQLite's locks.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)

    @classmethod
    def of(cls, path: str) -> "Watch | None":
        """Watch a file. Returns None on a system without inotify."""
        import ctypes

        kernel = ctypes.CDLL(None)
        if not hasattr(kernel, "inotify_init1"):
            return None
        descriptor = kernel.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return None
        watch = cls(descriptor)
        added = kernel.inotify_add_watch(descriptor, os.fsencode(path), IN_MODIFY)
        return watch if added >= 0 else None

    def drain(self) -> bool:
        """Read the pending events. Returns whether there were any."""
        return drain(self.descriptor)
