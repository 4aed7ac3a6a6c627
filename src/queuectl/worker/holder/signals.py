"""Passes signals to the holder's loop."""

import os
import selectors
import signal


class Signals:
    """Counts the signals that a person sends; `take` returns their number since its last call."""

    def __init__(self, selector: selectors.BaseSelector, on_hangup: str | None) -> None:
        self._noted = 0
        _open_self_pipe(selector)
        # A signal that was ignored at the start stays ignored: nohup ignores HUP, and a shell ignores INT for a
        # command with `&`. TERM is never ignored: such a worker could not be stopped.
        wanted = {signal.SIGTERM} | {
            n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN
        }
        if on_hangup:
            wanted = wanted - {signal.SIGHUP} if on_hangup == "ignore" else wanted | {signal.SIGHUP}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note if number in wanted else signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)

    def take(self) -> int:
        """Return the number of signals since the last call."""
        noted, self._noted = self._noted, 0
        return noted

    def _note(self, _number: int, _frame: object) -> None:
        self._noted += 1


def _open_self_pipe(selector: selectors.BaseSelector) -> None:
    """Let every signal wake the loop through a self-pipe. So a signal just before a wait ends the wait at once."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 4096))
