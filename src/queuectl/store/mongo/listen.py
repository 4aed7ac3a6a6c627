"""Notice what others change: by the log of the bells where it can be followed, by looks at the bells where not.

Following is a hint and no more: it ends with elections and restarts, and begins again while polling goes on. Rings are
rare on purpose, and one can be lost with its ringer: so after each ring a later wait ends by itself a moment later, and
without any a wait ends by itself now and then. A handle that claims is a worker, and hears only of work.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pymongo.errors import OperationFailure

from queuectl.clock import random_number
from queuectl.errors import QueuectlError
from queuectl.store.driver.self_pipe import SelfPipe
from queuectl.store.mongo import notify
from queuectl.store.mongo.connect import Base, MongoSession

ECHO = 0.1
"""Seconds after a ring in which another one may have been left out."""
POLL = 0.25
"""Seconds between two looks at the bells, spread by a fifth."""
REGARDLESS = 5.0
"""Seconds after which a wait ends though nothing was heard, spread by a fifth: a ring may be lost."""
AWAIT_MS = 1000
"""For how long the server keeps a question for what is new."""
AGAIN = 2.0
"""Seconds after which what broke is followed anew."""


class Listener:
    """`wait` returns when something may have changed; `wake` lets it return at once."""

    def __init__(
        self, connections: MongoSession, listens: bool, random_number: Callable[[], float] = random_number
    ) -> None:
        self._connections, self._listens, self._random_number = connections, listens, random_number
        self._pipe, self._lock = SelfPipe(), threading.Lock()
        self._bells: tuple[str, ...] = (notify.WORK, notify.END)
        self._seen: dict[str, int] | None = None
        self._echo: float | None = None
        self._unasked = 0.0
        self._woken = False
        self._follower: Follower | None = None

    @property
    def follows(self) -> bool:
        """Whether the server tells us."""
        return self._follower is not None and self._follower.open

    def only_work(self) -> None:
        """From here on only of what there is to do."""
        self._bells = (notify.WORK,)

    def soon(self) -> None:
        """Let a wait end in a moment, though nothing is heard: others are at what there is."""
        self._echo = time.monotonic() + ECHO

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._woken = True
        self._pipe.wake()

    def wait(self, timeout: float) -> bool:
        """Whether something may have changed within `timeout` seconds, or since the last wait."""
        deadline = time.monotonic() + timeout
        while not self._changed():
            rest = deadline - time.monotonic()
            rung, _ = self._pipe.wait(max(0.0, min(rest, self._pause())))
            if rung and self._woken:
                self._woken = False
                return True
            if rest <= 0:
                return False
        return True

    def close(self) -> None:
        """Hear nothing any more."""
        with self._lock:
            follower, self._follower = self._follower, None
        if follower is not None:
            follower.stop()

    def _pause(self) -> float:
        """Seconds until there is something to look at without being told."""
        now = time.monotonic()
        echo = REGARDLESS if self._echo is None else max(0.0, self._echo - now)
        poll = REGARDLESS if self.follows else POLL * self._spread()
        return min(echo, poll, max(0.0, self._unasked - now))

    def _spread(self) -> float:
        return 0.8 + 0.4 * self._random_number()

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
        if self._listens and self._follower is None:
            self._follower = Follower(self._connections, self._told)
        self._seen = self._connections.read(notify.counters)
        self._unasked = time.monotonic() + REGARDLESS * self._spread()
        return True

    def _told(self, bell: str) -> None:
        """The server says that a bell has rung: not a reason to wake up by itself, but one to look."""
        if bell in self._bells:
            self._pipe.wake()

    def _heard(self) -> bool:
        before, self._seen = self._seen or {}, self._connections.read(notify.counters)
        return any(self._seen.get(bell) != before.get(bell) for bell in self._bells)


class Follower:
    """A thread that follows the log of the bells. Ends for good where that is not possible."""

    def __init__(self, connections: MongoSession, told: Callable[[str], None]) -> None:
        self._connections, self._told = connections, told
        self._ended = threading.Event()
        self.open = False
        self._thread = threading.Thread(target=self._run, name="queuectl-bells", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End within one answer of the server; nobody waits for that."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            possible = True
            with suppress(QueuectlError):  # whoever asks for something hears of it; here polling goes on
                possible = self._connections.follow(self._listen)
            self.open = False
            if not possible:
                return
            self._ended.wait(AGAIN)

    def _listen(self, base: Base) -> bool:
        """Follow until told to end or until it breaks; False where this cannot be."""
        try:
            if _replicates(base):
                self._follow_stream(base)
            else:
                self._follow_log(base)
        except OperationFailure as error:
            return error.code not in IMPOSSIBLE
        return True

    def _follow_stream(self, base: Base) -> None:
        with notify.stream(base, AWAIT_MS) as stream:
            self.open = True
            while stream.alive and not self._ended.is_set():
                change = stream.try_next()
                if change is not None:
                    self._told(str(change["fullDocument"]["bell"]))

    def _follow_log(self, base: Base) -> None:
        with notify.follow(base, AWAIT_MS) as log:
            self.open = True
            while log.alive and not self._ended.is_set():
                for ring in log:
                    self._told(str(ring["bell"]))


def _replicates(base: Base) -> bool:
    return "setName" in base.command("hello")


IMPOSSIBLE = (2, 13, 40573)
"""The log is no capped collection; this user may not read a change stream; this server has none."""
