"""Looks through the whole queue now and then, and mends what does not fit: in a thread of every worker."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.store import codec
from queuectl.store.redis import repair
from queuectl.store.redis.connections import Connections, Line

INTERVAL = 3600.0


class Caretaker:
    """Starts with the first beat, so that only workers have one. Several at once do no harm.

    `moment` is the time for scripts.
    """

    def __init__(self, connections: Connections, moment: Callable[[], str]) -> None:
        self._connections, self._moment = connections, moment
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now, and once an hour from then on. Twice is once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queuectl-caretaker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the piece that is being looked at."""
        self._ended.set()

    def look(self) -> Counter[str]:
        """Look through everything once, mend it, and leave word of what was mended for `doctor`."""
        return self._connections.write(lambda line: self._look(line))

    def _look(self, line: Line) -> Counter[str]:
        mended = repair.heal(line, self._moment(), until=self._ended.is_set)
        note(line, mended, self._moment())
        return mended

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(StoreError, OutcomeUnknown):  # whoever asks for something hears of it
                self.look()
            self._ended.wait(INTERVAL)


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
