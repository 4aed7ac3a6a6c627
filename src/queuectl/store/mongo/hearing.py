"""Notice what others change: by a change stream over the bells where there is one, by looks at them where not.

A stream is a hint and no more: it ends with elections and old age, and is opened again while polling goes on. Rings are
rare on purpose, and one can be lost with its ringer: so after each ring a later wait ends by itself a moment later, and
without any a wait ends by itself now and then. A handle that claims is a worker, and hears only of work.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pymongo.errors import OperationFailure, PyMongoError

from queuectl.clock import chance
from queuectl.errors import QueuectlError
from queuectl.store.bell import Bell
from queuectl.store.mongo import bells
from queuectl.store.mongo.connections import Base, Connections

ECHO = 0.1
"""Seconds after a ring in which another one may have been left out."""
POLL = 0.25
"""Seconds between two looks at the bells, spread by a fifth."""
REGARDLESS = 5.0
"""Seconds after which a wait ends though nothing was heard, spread by a fifth: a ring may be lost."""
AWAIT_MS = 1000
AGAIN = 5.0
"""Seconds after which a stream that broke is opened again."""


class Hearing:
    """`wait` returns when something may have changed; `wake` lets it return at once."""

    def __init__(self, connections: Connections, listens: bool, chance: Callable[[], float] = chance) -> None:
        self._connections, self._listens, self._chance = connections, listens, chance
        self._bell, self._lock = Bell(), threading.Lock()
        self._bells: tuple[str, ...] = (bells.WORK, bells.END)
        self._seen: dict[str, int] | None = None
        self._echo: float | None = None
        self._unasked = 0.0
        self._woken = False
        self._listener: Listener | None = None

    @property
    def streams(self) -> bool:
        """Whether a change stream tells us."""
        return self._listener is not None and self._listener.open

    def only_work(self) -> None:
        """From here on only of what there is to do."""
        self._bells = (bells.WORK,)

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._woken = True
        self._bell.ring()

    def wait(self, timeout: float) -> bool:
        """Whether something may have changed within `timeout` seconds, or since the last wait."""
        deadline = time.monotonic() + timeout
        while not self._changed():
            rest = deadline - time.monotonic()
            rung, _ = self._bell.hear(max(0.0, min(rest, self._pause())))
            if rung and self._woken:
                self._woken = False
                return True
            if rest <= 0:
                return False
        return True

    def close(self) -> None:
        """Hear nothing any more."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def _pause(self) -> float:
        """Seconds until there is something to look at without being told."""
        now = time.monotonic()
        echo = REGARDLESS if self._echo is None else max(0.0, self._echo - now)
        poll = REGARDLESS if self.streams else POLL * self._spread()
        return min(echo, poll, max(0.0, self._unasked - now))

    def _spread(self) -> float:
        return 0.8 + 0.4 * self._chance()

    def _changed(self) -> bool:
        with self._lock:
            if self._seen is None:
                return self._begin()
            now = time.monotonic()
            if self._heard():
                self._echo = now + ECHO
            elif self._echo is not None and now >= self._echo:
                self._echo = None
            elif now < self._unasked:
                return False
            self._unasked = now + REGARDLESS * self._spread()
            return True

    def _begin(self) -> bool:
        """Nobody knows what changed before this first look."""
        if self._listens and self._listener is None:
            self._listener = Listener(self._connections, self._told)
        self._seen = self._connections.read(bells.rings)
        self._unasked = time.monotonic() + REGARDLESS * self._spread()
        return True

    def _told(self, bell: str) -> None:
        """A stream says that a bell has rung: not a reason to wake up by itself, but one to look."""
        if bell in self._bells:
            self._bell.ring()

    def _heard(self) -> bool:
        before, self._seen = self._seen or {}, self._connections.read(bells.rings)
        return any(self._seen.get(bell) != before.get(bell) for bell in self._bells)


class Listener:
    """A thread that reads the change stream of the bells. Ends for good where there are no streams."""

    def __init__(self, connections: Connections, told: Callable[[str], None]) -> None:
        self._connections, self._told = connections, told
        self._ended = threading.Event()
        self.open = False
        self._thread = threading.Thread(target=self._run, name="queuectl-changes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End within one answer of the server; nobody waits for that."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(QueuectlError):  # whoever asks for something hears of it; here polling goes on
                if not self._connections.read(self._listen):
                    return
            self.open = False
            self._ended.wait(AGAIN)

    def _listen(self, base: Base) -> bool:
        """Read until told to end or until it breaks; False where this server has no streams."""
        try:
            with base["bells"].watch(max_await_time_ms=AWAIT_MS) as stream:
                self.open = True
                while not self._ended.is_set():
                    change = stream.try_next()
                    if change is not None and "documentKey" in change:
                        self._told(str(change["documentKey"]["_id"]))
        except OperationFailure as error:
            return error.code not in NO_STREAMS
        except PyMongoError:
            return True
        return False


NO_STREAMS = (40573, 13)
"""A standalone server has no change streams; a role may not be allowed to read one."""
