"""`--watch`: a screen that is redrawn every two seconds, until `q` or Ctrl+C.

The terminal is restored at every end of the command, also after TERM and HUP, and while Ctrl+Z stops the command.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from queuectl import interrupt
from queuectl.errors import InvalidInput, StoreError
from queuectl.terminal import cut, height_of, safe, width_of

if TYPE_CHECKING:
    from queuectl.cli.session import Session

SECONDS = 2.0
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Switch to the alternate screen without a cursor, and back."""


def watch(session: "Session", lines: Callable[[], Iterable[str]]) -> int:
    """Draw these lines every two seconds. Returns 0 when the person ends the command."""
    if not session.out.isatty() or session.json:
        raise InvalidInput(
            "--watch needs a terminal", "omit it; a program can run the command with --json repeatedly"
        )
    with _screen(session) as woken:
        while True:
            session.width = width_of(session.out.fileno())
            _draw(session, lines)
            if _enough(woken):
                return 0


def _draw(session: "Session", lines: Callable[[], Iterable[str]]) -> None:
    try:
        drawn = list(lines())
    except StoreError as error:  # show the error and try again, because the store may recover
        drawn = [cut(safe(f"queuectl: {error.message}"), session.width, session.ellipsis)]
    height = max(height_of(session.out.fileno()) - 1, 1)
    if len(drawn) > height:
        drawn = [*drawn[: height - 1], f"and {len(drawn) - height + 1} more lines"]
    session.out.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in drawn) + "\x1b[J")
    session.out.write("\x1b[2mq ends\x1b[0m" if session.in_colour else "q ends")
    session.out.flush()


def _enough(woken: int) -> bool:
    """Wait until the screen is drawn again; True if the person pressed `q`. A signal (a new size) ends the wait."""
    watched = [woken, sys.stdin.fileno()] if sys.stdin.isatty() else [woken]
    ready, _, _ = select.select(watched, [], [], SECONDS)
    if woken in ready:
        os.read(woken, 4096)
    if len(watched) == 2 and watched[1] in ready:
        return os.read(watched[1], 64)[:1] in (b"q", b"Q", b"\x03", b"\x04", b"")
    return False


class _Terminal:
    """The terminal of the command: `enter` prepares it for drawing, `leave` restores it."""

    def __init__(self, session: "Session") -> None:
        self._out = session.out
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] | None = termios.tcgetattr(self._keys) if self._keys is not None else None

    def enter(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys)
        self._out.write(ENTER)
        self._out.flush()

    def leave(self) -> None:
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        self._out.write(LEAVE)
        self._out.flush()

    def stop(self, _number: int, _frame: object) -> None:
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()  # this line runs when the process is continued


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _screen(session: "Session") -> Iterator[int]:
    """Prepare the terminal for drawing; yield a descriptor that becomes readable when a signal arrives."""
    terminal = _Terminal(session)
    interrupt.answer()
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    handlers = {
        signal.SIGTERM: _end,
        signal.SIGHUP: _end,
        signal.SIGTSTP: terminal.stop,
        signal.SIGWINCH: lambda *_: None,
    }
    kept = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    interrupt.answer()
    terminal.enter()
    try:
        yield woken
    finally:
        terminal.leave()
        signal.set_wakeup_fd(-1)
        for number, handler in kept.items():
            signal.signal(number, handler)
        os.close(woken)
        os.close(waker)
