"""Handles Ctrl+C: decides when it may end a command, and how.

On SIGINT Python raises an exception at the place that it executes. In an import that prints a traceback, and in a C
library that builds its types (msgspec) it caused a crash. So from its first line on the program ends at once, without
a message. A command that has something to restore (a cursor, a terminal, a process) calls `answer`, and from then on
gets the exception. Code that must not be interrupted runs inside `held`.
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
    """Let Ctrl+C end the program at once. If SIGINT is ignored (`nohup`, `&` in a script), it stays ignored."""
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, _end)


def answer() -> None:
    """Let Ctrl+C raise KeyboardInterrupt."""
    if getsignal(SIGINT) is _end:
        signal(SIGINT, default_int_handler)


class held:  # noqa: N801  read as `with held():`
    """Delay Ctrl+C during a block: KeyboardInterrupt is raised at the end of the block. Only in the main thread."""

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
        except ValueError:  # this is not the main thread, which alone handles signals
            return False
        return True


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)
