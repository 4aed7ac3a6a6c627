"""One line on stderr that is written again while something takes its time; nothing where nobody looks."""

from datetime import timedelta
from typing import TYPE_CHECKING

from queuectl.cli.cells import short
from queuectl.clock import boottime
from queuectl.terminal import cut, width_of

if TYPE_CHECKING:
    from queuectl.cli.session import Session

EVERY = 0.2
"""Seconds between two writings."""
SETTLED = 3.0
"""Seconds after which a rate says something about the rest."""


class Live:
    """The line. Clear it before anything else is written to the terminal."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.wanted = session.err.isatty() and not (session.args.quiet or session.json)
        self._shown, self._next = False, 0.0

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
