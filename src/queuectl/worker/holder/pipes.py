"""Reading what commands print: when it comes, a bounded amount at a time, and what is left when they end."""

import os
import selectors
from collections.abc import Callable
from functools import partial

from queuectl.clock import boottime
from queuectl.worker.holder.attempt import Attempt

_BUFFER = 256 << 10
_READS_AT_EXIT = 16
_NEVER = float("inf")


class Pipes:
    """Our ends of the commands' pipes. `on_output` is told of an attempt that was read from."""

    def __init__(self, selector: selectors.BaseSelector, on_output: Callable[[Attempt, float], None]) -> None:
        self._selector, self._on_output = selector, on_output
        self._buffer = memoryview(bytearray(_BUFFER))

    def listen(self, attempt: Attempt) -> None:
        """Wait for its pipes from now on, if that is not so already."""
        if attempt.listen_at != _NEVER:
            attempt.listen_at = _NEVER
            for pipe in attempt.pipes:
                self._selector.register(pipe, selectors.EVENT_READ, partial(self._ready, attempt, pipe))

    def read_rest(self, attempt: Attempt, now: float) -> None:
        """What is in the pipes when the leader is gone; bounded, for somebody else may still be writing."""
        for pipe in list(attempt.pipes):
            for _ in range(_READS_AT_EXIT):
                if not self._read(attempt, pipe, now):
                    break

    def close(self, attempt: Attempt) -> None:
        """Read no more, whoever may still write."""
        for pipe in list(attempt.pipes):
            self._close(attempt, pipe)

    def _ready(self, attempt: Attempt, pipe: int) -> None:
        """One read per pass, so that a command which prints without end leaves room for the others."""
        now = boottime()
        self._read(attempt, pipe, now)
        self._on_output(attempt, now)

    def _read(self, attempt: Attempt, pipe: int, now: float) -> bool:
        """Read once; False when there is nothing more for now or for ever."""
        try:
            count = os.readv(pipe, [self._buffer])
        except BlockingIOError:
            return False
        if count:
            attempt.capture.feed(attempt.pipes[pipe], self._buffer[:count], now)
            return True
        self._close(attempt, pipe)
        return False

    def _close(self, attempt: Attempt, pipe: int) -> None:
        if attempt.listen_at == _NEVER:
            self._selector.unregister(pipe)
        os.close(pipe)
        del attempt.pipes[pipe]
