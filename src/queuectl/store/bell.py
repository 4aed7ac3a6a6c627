"""How a thread that waits for a store is woken by another one: a bell, listened to beside a descriptor of the store.

Descriptors are closed when the last user lets go of the object, never under a thread that still sleeps on them.
"""

import os
from contextlib import suppress


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

    def hear(self, seconds: float, beside: int | None = None) -> tuple[bool, bool]:
        """Sleep at most so long; whether it was rung, and whether the descriptor `beside` has something to read."""
        import select  # short commands never wait

        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        if beside is not None:
            poll.register(beside, select.POLLIN)
        heard = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        if self._ear in heard:
            drain(self._ear)
        return self._ear in heard, beside in heard


def drain(descriptor: int) -> None:
    """Read what there is, and drop it."""
    with suppress(BlockingIOError):
        while os.read(descriptor, 65536):
            pass
