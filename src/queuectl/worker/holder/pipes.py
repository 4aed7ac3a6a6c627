"""Reads the output of commands: a bounded amount per read, and the rest when the command has ended."""

import os
import selectors
from collections.abc import Callable
from functools import partial

from queuectl.clock import boottime
from queuectl.worker.holder.attempt import Attempt

_BUFFER = 256 << 10
_READS_AT_EXIT = 16


class Pipes:
    """The holder's ends of the commands' pipes. Calls `on_output` for an attempt after each read."""

    def __init__(self, selector: selectors.BaseSelector, on_output: Callable[[Attempt, float], None]) -> None:
        self._selector, self._on_output = selector, on_output
        self._buffer = memoryview(bytearray(_BUFFER))

    def listen(self, attempt: Attempt) -> None:
        """Begin to watch the pipes of an attempt. Idempotent."""
        if not attempt.listening:
            attempt.listening = True
            for pipe in attempt.pipes:
                self._selector.register(pipe, selectors.EVENT_READ, partial(self._ready, attempt, pipe))

    def read_rest(self, attempt: Attempt, now: float) -> None:
        """Read the rest of the pipes after the leader's exit: a bounded amount, as another process may still write."""
        for pipe in list(attempt.pipes):
            for _ in range(_READS_AT_EXIT):
                if not self._read(attempt, pipe, now):
                    break

    def close(self, attempt: Attempt) -> None:
        """Close the pipes of an attempt, even if a process still writes."""
        for pipe in list(attempt.pipes):
            self._close(attempt, pipe)

    def _ready(self, attempt: Attempt, pipe: int) -> None:
        """Read once per round of the loop, so that a command which prints without end does not block other commands."""
        now = boottime()
        self._read(attempt, pipe, now)
        self._on_output(attempt, now)

    def _read(self, attempt: Attempt, pipe: int, now: float) -> bool:
        """Read once. Returns False if there is nothing to read now, or the pipe has ended."""
        try:
            count = os.readv(pipe, [self._buffer])
        except BlockingIOError:
            return False
        if count:
            attempt.output.feed(attempt.pipes[pipe], self._buffer[:count], now)
            return True
        self._close(attempt, pipe)
        return False

    def _close(self, attempt: Attempt, pipe: int) -> None:
        if attempt.listening:
            self._selector.unregister(pipe)
        os.close(pipe)
        del attempt.pipes[pipe]
