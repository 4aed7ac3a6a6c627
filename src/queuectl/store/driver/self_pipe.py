"""A pipe within a process, with which one thread wakes another thread that waits for a descriptor.

The descriptors are closed when the object is deleted, after its last use. If they were closed earlier, another file
could get their numbers while a thread still polls them.
"""

import os
from contextlib import suppress


class SelfPipe:
    """Wakes a thread that waits. A `wake` before the `wait` is not lost: the next `wait` returns at once."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def __del__(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    @property
    def descriptor(self) -> int:
        """The descriptor that is readable after a `wake`."""
        return self._reader

    def clear(self) -> None:
        """Forget every `wake` so far."""
        drain(self._reader)

    def wake(self) -> None:
        """Let the running `wait` return; without a running one, the next `wait`."""
        with suppress(BlockingIOError):  # a full pipe wakes the reader too
            os.write(self._writer, b"!")

    def wait(self, seconds: float, descriptor: int | None = None) -> bool:
        """Sleep for at most `seconds`, until a `wake` or until `descriptor` is readable. Forgets each `wake` so far.

        Returns whether `descriptor` is readable.
        """
        import select  # imported here, because short commands do not need it

        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        ready = [number for number, _ in poll.poll(seconds * 1000)]
        if self._reader in ready:
            self.clear()
        return descriptor in ready


def drain(descriptor: int) -> bool:
    """Read and discard all bytes of a non-blocking descriptor. Returns whether there were any."""
    found = False
    try:
        while os.read(descriptor, 4096):
            found = True
    except BlockingIOError:
        return found
    return found
