"""The named pipe on which commands report their progress. There is one for each worker, and nothing for each job.

The holder opens it for reading and writing: so there is never an end of file, and a command can always open it. After
a read the pipe is not watched for a moment. So a command that writes without end is slowed down, and not the worker.
"""

import os
import selectors
from collections.abc import Callable, Mapping
from pathlib import Path

from queuectl.worker import progress_line
from queuectl.worker.holder.log import Log
from queuectl.worker.holder.timers import Deadline
from queuectl.worker.progress_line import LONGEST_LINE, ProgressLine

READ_EVERY = 0.2
"""Seconds between two reads while commands write."""
_BUFFER = 64 << 10
"""Bytes of one read: as many as the kernel keeps in a pipe."""
_NOTHING: Mapping[str, ProgressLine] = {}


def _ignore() -> None:
    """Until `listen` is called."""


class ProgressPipe:
    """The pipe of a worker. `path` is None if it could not be made; then no progress is reported."""

    def __init__(self, path: Path, selector: selectors.BaseSelector, log: Log) -> None:
        self._selector, self._wake = selector, _ignore
        self.path: Path | None = path
        self._file, self._rest = -1, b""
        self._again = Deadline()
        try:
            os.mkfifo(path, 0o600)
            self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            log.write("no_progress", f"commands cannot report progress: {error}", errno=error.errno)
            self.path = None

    def listen(self, wake: Callable[[], None]) -> None:
        """Watch the pipe. `wake` is called when it can be read."""
        self._wake = wake
        self._again.set(0.0)

    def read(self) -> Mapping[str, ProgressLine]:
        """Read what commands have written. Returns the last valid line of each attempt."""
        try:
            data = os.read(self._file, _BUFFER)
        except OSError:  # nothing is written, or there is no pipe
            return _NOTHING
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: LONGEST_LINE + 1]  # a longer line stays too long
        valid = filter(None, map(progress_line.read, lines))
        return {line.attempt_id: line for line in valid}

    def due(self) -> float:
        """When `run_due` must be called."""
        return self._again.at

    def run_due(self, now: float) -> None:
        """Watch the pipe again, if the pause after a read is over."""
        if self._again.fires(now) and self._file >= 0:
            self._selector.register(self._file, selectors.EVENT_READ, self._ready)

    def _ready(self) -> None:
        self._selector.unregister(self._file)
        self._wake()

    def pause(self, now: float) -> None:
        """Watch the pipe again after `READ_EVERY` seconds."""
        self._again.set(now + READ_EVERY)

    def remove(self) -> None:
        """Delete the pipe, because the worker ends."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
