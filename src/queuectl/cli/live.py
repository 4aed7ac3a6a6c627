"""Rewrites one line on stderr while a command works, if stderr is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from queuectl.cli.cells import short
from queuectl.clock import boottime
from queuectl.terminal import cut, width_of

if TYPE_CHECKING:
    from queuectl.cli.session import Session

PATIENCE = 1.0
"""Seconds until the progress of a command is shown."""
EVERY = 0.2
"""Seconds between two updates."""
SETTLED = 3.0
"""Seconds after which the measured speed is good enough for an estimate."""


class Live:
    """The live line. Clear it before other output to the terminal. `patience`: seconds until it is shown."""

    def __init__(self, session: "Session", patience: float = 0.0) -> None:
        self._session = session
        self.wanted = session.err.isatty() and not (session.args.quiet or session.json)
        self._shown, self._next = False, boottime() + patience

    def show(self, text: str) -> None:
        """Rewrite the line, unless it was written less than `EVERY` seconds ago."""
        if self.wanted and boottime() >= self._next:
            self._shown, self._next = True, boottime() + EVERY
            width = width_of(self._session.err.fileno())
            self._session.err.write(f"\r\x1b[K{cut(text, max(width - 1, 10))}")
            self._session.err.flush()

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self._shown:
            self._shown, self._next = False, 0.0
            self._session.err.write("\r\x1b[K")
            self._session.err.flush()


@contextmanager
def progress(session: "Session", verb: str, count: int | None) -> Iterator[Callable[[int], None]]:
    """Show the progress of a change of jobs, after one second. The yielded function adds a number of done jobs."""
    live, done = Live(session, PATIENCE), 0
    live.wanted = live.wanted and not session.args.verbose

    def advance(by: int) -> None:
        nonlocal done
        done += by
        live.show(f"{verb}: {done}" + (f" of {max(count, done)}" if count is not None else ""))

    try:
        yield advance
    finally:
        live.clear()


class Rest:
    """Estimates the remaining time from the speed so far."""

    def __init__(self) -> None:
        self._begun = boottime()
        self._first: int | None = None

    def words(self, left: int) -> str:
        """`, about 4m10s left`. Empty until enough is done for an estimate."""
        if self._first is None:
            self._first = left
        took, done = boottime() - self._begun, self._first - left
        if took < SETTLED or done <= 0 or not left:
            return ""
        return f", about {short(timedelta(seconds=max(took / done * left, 1.0)))} left"
