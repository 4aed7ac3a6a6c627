"""One line on stderr that is written again while something takes its time; nothing where nobody looks."""

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
"""Seconds before the progress of an act is shown."""
EVERY = 0.2
"""Seconds between two writings."""
SETTLED = 3.0
"""Seconds after which a rate says something about the rest."""


class Live:
    """The line. Clear it before anything else is written to the terminal. `patience`: seconds before it is shown."""

    def __init__(self, session: "Session", patience: float = 0.0) -> None:
        self._session = session
        self.wanted = session.err.isatty() and not (session.args.quiet or session.json)
        self._shown, self._next = False, boottime() + patience

    def show(self, text: str) -> None:
        """Write it again, unless that was a moment ago."""
        if self.wanted and boottime() >= self._next:
            self._shown, self._next = True, boottime() + EVERY
            width = width_of(self._session.err.fileno())
            self._session.err.write(f"\r\x1b[K{cut(text, max(width - 1, 10))}")
            self._session.err.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            self._shown, self._next = False, 0.0
            self._session.err.write("\r\x1b[K")
            self._session.err.flush()


@contextmanager
def progress(session: "Session", verb: str, count: int | None) -> Iterator[Callable[[int], None]]:
    """How far an act on jobs is, once it has taken a while: call it with how many more are done."""
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
    """How long the rest will take, if it goes on as it went so far."""

    def __init__(self) -> None:
        self._begun = boottime()
        self._first: int | None = None

    def words(self, left: int) -> str:
        """`, about 4m10s left`, or nothing while that is a guess."""
        if self._first is None:
            self._first = left
        took, done = boottime() - self._begun, self._first - left
        if took < SETTLED or done <= 0 or not left:
            return ""
        return f", about {short(timedelta(seconds=max(took / done * left, 1.0)))} left"
