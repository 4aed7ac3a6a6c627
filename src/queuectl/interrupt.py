"""Ctrl+C: when it may end a command, and how.

Python answers SIGINT with an exception wherever it happens to be. In an import that is a traceback, and in a library
that is written in C and builds its types (msgspec) it was a crash. So the program ends at once and without a word, from
its first line on. Commands that have something to put back (a cursor, a terminal, a process) `answer` with the
exception from there on, and what must not be interrupted is `held`.
"""

import os
from _signal import (  # type: ignore[import-not-found]  # `signal` would load `enum` on the way
    SIGINT,
    default_int_handler,
    getsignal,
    signal,
)

INTERRUPTED = 130


def end_at_once() -> None:
    """Ctrl+C ends the program from now on. One that is ignored (`nohup`, `&` in a script) stays ignored."""
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, _end)


def answer() -> None:
    """Ctrl+C raises KeyboardInterrupt from now on."""
    if getsignal(SIGINT) is _end:
        signal(SIGINT, default_int_handler)


class held:  # noqa: N801  read as `with held():`
    """Ctrl+C that comes meanwhile raises KeyboardInterrupt at the end. In other threads it never does."""

    def __enter__(self) -> None:
        self._came = False
        self._mine = getsignal(SIGINT) is default_int_handler and self._set(self._note)

    def __exit__(self, *_: object) -> None:
        if self._mine:
            self._set(default_int_handler)
            if self._came:
                raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        self._came = True

    def _set(self, handler: object) -> bool:
        try:
            signal(SIGINT, handler)
        except ValueError:  # not the main thread, the only one in which signals are answered
            return False
        return True


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)
