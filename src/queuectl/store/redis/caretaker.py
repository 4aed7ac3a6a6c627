"""Looks through the whole queue now and then, and mends what does not fit: in a thread of a worker.

Of all workers one does, once an hour and after the server may have lost something. It takes its time: the server has
one processor for everybody.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.store.driver import codec
from queuectl.store.redis import repair, turns
from queuectl.store.redis.connect import Line, RedisSession

GLANCE = 60.0
"""Seconds after which it is asked again whose turn it is."""
SHARE = 0.2
"""Of the server's time, at most."""


class Caretaker:
    """Starts with the first beat, so that only workers have one. Several at once do no harm.

    `moment` is the time for scripts.
    """

    def __init__(self, connections: RedisSession, moment: Callable[[], str]) -> None:
        self._connections, self._moment = connections, moment
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._went_on = 0.0

    def start(self) -> None:
        """Look whenever it is our turn from now on. Twice is once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queuectl-caretaker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the piece that is being looked at."""
        self._ended.set()

    def look(self) -> Counter[str]:
        """Look through everything once, mend it, and leave word of what was mended for `doctor`."""
        return self._connections.write(self._look)

    def _look(self, line: Line) -> Counter[str]:
        self._went_on = time.monotonic()
        healed = repair.heal(line, self._moment(), goes_on=lambda: self._rest(line))
        note(line, healed.found, self._moment())
        if healed.complete:
            turns.done(line, "repair")
        return healed.found

    def _rest(self, line: Line) -> bool:
        """Leave the server to others for several times as long as the last piece took; whether to go on."""
        took = time.monotonic() - self._went_on
        turns.keep(line, "repair")
        stopped = self._ended.wait(took * (1 / SHARE - 1))
        self._went_on = time.monotonic()
        return not stopped

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(StoreError, OutcomeUnknown):  # whoever asks for something hears of it
                if self._connections.write(lambda line: turns.take(line, "repair")):
                    self.look()
            self._ended.wait(GLANCE)


def note(line: Line, mended: Counter[str], moment: str) -> None:
    """Leave word of what was mended. Nothing is no news, and what cannot be read stays as it is."""
    kinds = {kind: count for kind, count in mended.items() if count and kind != repair.UNREADABLE}
    if kinds:
        seconds, micros = line.call("TIME")
        at = int(moment) if moment else int(seconds) * 1_000_000 + int(micros)
        line.call("SET", line.key("mended"), codec.to_json({"at": at, **kinds}))


def mended(line: Line) -> tuple[datetime, dict[str, int]] | None:
    """When something was mended last, and how much of each kind; None if never."""
    text = line.call("GET", line.key("mended"))
    if text is None:
        return None
    found = codec.value(text.decode())
    return codec.moment(found.pop("at")), found
