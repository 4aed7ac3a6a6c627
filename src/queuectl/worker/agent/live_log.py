"""The log for a person at a terminal: coloured, aligned, cut at its width, and folded while many commands end.

While more than `FOLD_ABOVE` commands end per second, one live line counts the successes instead of a line for each. A
failure, a retry, a dead job and an event of the worker itself always have a line.
"""

import os
import time
from collections.abc import Callable

from queuectl.config import Settings
from queuectl.domain.query import Filter
from queuectl.errors import QueuectlError
from queuectl.store.protocol import Store
from queuectl.terminal import cut, pad, paint, safe, width_of

FOLD_ABOVE, UNFOLD_BELOW = 20, 10
"""Ended commands per second at which folding begins and ends. Two bounds prevent frequent switching near one bound."""
DRAWN_EVERY, COUNTED_EVERY = 0.2, 2.0
"""Seconds between two drawings of the live line, and between two counts of the waiting jobs."""
WIDEST_NAME = 20
CLEAR = "\x1b[2K\x1b[G"
"""The control sequence that clears the current line."""
COLOURS = {
    "done": "green", "retry": "magenta", "dead": "red", "cancelled": "dim", "requeued": "yellow", "fenced": "yellow",
    "recovered": "yellow", "store": "yellow", "trouble": "red", "output": "yellow", "paused": "yellow",
}  # fmt: skip


class LiveLog:
    """Formats lines, and decides which to fold.

    `waiting` returns the number of waiting jobs; None: the store did not answer.
    """

    def __init__(
        self,
        width: Callable[[], int],
        *,
        colour: bool,
        fold: bool,
        verbose: bool = False,
        waiting: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._width, self._colour, self._fold, self._waiting, self._clock = (
            width,
            colour,
            fold,
            waiting,
            clock,
        )
        self.folding, self.verbose = False, verbose
        self._names = 4
        self._done = self._failed = 0
        self._ended, self._since, self._rate = 0, clock(), 0.0
        self._folded, self._folded_since = 0, 0.0
        self._live, self._drawn = False, 0.0
        self._left: int | None = None
        self._counted = 0.0

    def line(self, event: str, text: str, name: str = "") -> str:
        """The line for one event. `name`: the job that the event is about; empty for an event of the worker."""
        self._names = max(self._names, min(len(name), WIDEST_NAME))
        head = f"{time.strftime('%H:%M:%S')} "
        rest = f"{pad(name, self._names)}  {safe(text)}" if name else safe(text)
        rest = cut(rest, max(self._width() - len(head) - 10, 10))
        word = f"{event:<9}"
        return f"{head}{paint(word, COLOURS.get(event, 'bold')) if self._colour else word} {rest}\n"

    def ended(self, event: str) -> bool:
        """Count the end of an attempt. Returns whether only the live line shows it."""
        succeeded = event == "done"
        self._measure()
        self._ended += 1
        self._done += succeeded
        self._failed += event in ("retry", "dead")
        if self._fold and self._ended > FOLD_ABOVE and not self.folding:
            self.folding, self._folded, self._folded_since = True, 0, self._clock()
            self._rate = float(self._ended)
        self._folded += self.folding and succeeded
        return self.folding and succeeded

    def frame(self, lines: list[str]) -> list[str]:
        """The text to write now: the lines, and below them the live line if there is one."""
        self._measure()
        was, self._live = self._live, False
        if self._folded and not self.folding:
            span = max(self._clock() - self._folded_since, 0.0)
            lines = [
                self.line("done", f"{self._folded} commands in {span:.0f} s had no line of their own"),
                *lines,
            ]
            self._folded = 0
        shown = [CLEAR, *lines] if was and lines else lines
        if not self.folding:
            return shown
        self._live = was or bool(lines)
        if lines or self._clock() - self._drawn >= DRAWN_EVERY:
            self._live, self._drawn = True, self._clock()
            shown = [*shown, CLEAR, cut(self._summary(), max(self._width() - 1, 10))]
        return shown

    def close(self) -> None:
        """End the folding, because the worker exits."""
        self.folding = False

    def _measure(self) -> None:
        """Measure the rate once a second."""
        now = self._clock()
        if now - self._since < 1.0:
            return
        self._rate = self._ended / (now - self._since)
        self._ended, self._since = 0, now
        self.folding = self.folding and self._rate > UNFOLD_BELOW

    def _summary(self) -> str:
        if self._clock() - self._counted >= COUNTED_EVERY:
            self._left, self._counted = self._waiting(), self._clock()
        failed = f", {self._failed} failed" if self._failed else ""
        left = "" if self._left is None else f", {self._left} waiting"
        return f"{time.strftime('%H:%M:%S')} {self._done} done, {self._rate:.0f}/s{failed}{left}"


def open_live_log(own: dict[str, object], settings: Settings, store: Store) -> LiveLog | None:
    """The live log, or None if stdout is no terminal or the log format is JSON."""
    if own.get("log_format", "plain") != "plain" or not os.isatty(1):
        return None

    def waiting() -> int | None:
        try:
            return store.counts(Filter()).of("pending", "failed")
        except QueuectlError:
            return None

    able = os.environ.get("TERM") != "dumb"
    wanted = settings.color == "always" or (
        settings.color == "auto" and not os.environ.get("NO_COLOR") and able
    )
    verbose = bool(own.get("verbose"))
    fold = able and os.isatty(2) and not verbose
    return LiveLog(lambda: width_of(1), colour=wanted, fold=fold, verbose=verbose, waiting=waiting)
