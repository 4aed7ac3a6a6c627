"""Two ends of waiting: a bell that another thread rings, and the kernel's word that a file was written to.

Descriptors are closed when the last user lets go of the object, never under a thread that still sleeps on them.
"""

import os
from contextlib import suppress

IN_MODIFY = 0x2


class Bell:
    """A pipe to oneself: rung before it is listened to, it is heard all the same."""

    def __init__(self) -> None:
        self._ear, self._hand = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._hand, False)

    def __del__(self) -> None:
        os.close(self._ear)
        os.close(self._hand)

    def ring(self) -> None:
        """Heard by whoever listens, now or next."""
        with suppress(BlockingIOError):  # full: it has been rung thousands of times already
            os.write(self._hand, b"!")

    def hear(self, seconds: float, watch: "Watch | None" = None) -> tuple[bool, bool]:
        """Sleep at most so long; whether it was rung, and whether the watch told of something."""
        import select  # short commands never wait

        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        if watch:
            poll.register(watch.descriptor, select.POLLIN)
        heard = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        for descriptor in heard:
            _drain(descriptor)
        return self._ear in heard, len(heard) > (self._ear in heard)


class Watch:
    """Linux's inotify on one file. It opens no descriptor of the file itself, which would cost SQLite its locks."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)

    @classmethod
    def of(cls, path: str) -> "Watch | None":
        """A watch, or None where the system has none to give."""
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


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 65536):
            pass
