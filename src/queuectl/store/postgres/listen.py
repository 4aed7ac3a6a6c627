"""Notice what others change: by notifications where they reach us, by a look at the bells' counters where not.

Rings are rare on purpose (the schema lets a bell ring once in 50 ms), so what follows closely upon a ring has none of
its own: after each one heard, a later wait ends by itself a moment later. A handle that claims is a worker, and hears
only of work; others hear also of what has ended.
"""

import threading
import time
from collections.abc import Callable

import psycopg

from queuectl.clock import random_number
from queuectl.store.driver.self_pipe import SelfPipe
from queuectl.store.postgres.connect import Line, PostgresSession
from queuectl.store.postgres.schema import channel
from queuectl.store.postgres.sql import statements

SQL = statements("registry")
ECHO = 0.1
"""Seconds after a ring in which another one may have been left out."""
POLL = 0.25
"""Seconds between two looks at the counters, spread by a fifth."""
BELLS = ("work", "end")


class Listener:
    """`wait` returns when something may have changed; `wake` lets it return at once."""

    def __init__(
        self, connections: PostgresSession, listens: bool, random_number: Callable[[], float] = random_number
    ) -> None:
        self._connections, self._listens, self._random_number = connections, listens, random_number
        self._pipe, self._lock = SelfPipe(), threading.Lock()
        self._bells: tuple[str, ...] = BELLS
        self._line: Line | None = None
        self._seen: dict[str, int] | None = None
        self._echo: float | None = None

    def only_work(self) -> None:
        """From here on only of what there is to do."""
        self._bells = BELLS[:1]

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._pipe.wake()

    def wait(self, timeout: float) -> bool:
        """Whether something may have changed within `timeout` seconds, or since the last wait."""
        deadline = time.monotonic() + timeout
        while not self._changed():
            rest = deadline - time.monotonic()
            rung, _ = self._pipe.wait(max(0.0, min(rest, self._pause())), self._socket())
            if rung:
                return True
            if rest <= 0:
                return False
        return True

    def take_in(self) -> None:
        """Read what has come, though nobody waits: a listener that never reads holds up the notifications of all."""
        if self._lock.acquire(blocking=False):
            try:
                if self._line is not None and self._heard():
                    self._echo = time.monotonic()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Hear nothing any more."""
        with self._lock:
            self._drop()

    def _socket(self) -> int | None:
        line = self._line
        try:
            return None if line is None else line.fileno()
        except psycopg.Error:  # closed meanwhile, which the next look finds out
            return None

    def _pause(self) -> float:
        """Seconds until there is something to look at without being told."""
        echo = 3600.0 if self._echo is None else max(0.0, self._echo - time.monotonic())
        return min(echo, 3600.0 if self._line else POLL * (0.8 + 0.4 * self._random_number()))

    def _changed(self) -> bool:
        with self._lock:
            if self._seen is None:
                return self._begin()
            heard = self._heard() if self._line else self._looked()
            now = time.monotonic()
            if heard:
                self._echo = now + ECHO
            elif self._echo is not None and now >= self._echo:
                self._echo = None
                return True
            return heard

    def _begin(self) -> bool:
        """Nobody knows what changed before this first look."""
        try:
            self._listens = self._listens and self._listen()
            self._seen = self._rings()
        except BaseException:
            self._drop()
            raise
        return True

    def _listen(self) -> bool:
        line = self._connections.open(self._tune_in)
        if self._line is not line:
            line.close()
        return self._line is line

    def _tune_in(self, line: Line) -> None:
        """Notifications come to the session that asked, and behind a pooler the next statement may have another."""
        if not line.pooled:
            line.run(f'LISTEN "{channel(line.schema)}"')
            self._line = line

    def _rings(self) -> dict[str, int]:
        return dict(self._connections.read(lambda line: line.rows(SQL["rings"])))

    def _looked(self) -> bool:
        before, self._seen = self._seen or {}, self._rings()
        return any(self._seen.get(bell) != before.get(bell) for bell in self._bells)

    def _heard(self) -> bool:
        assert self._line is not None
        heard = False
        try:
            self._line.pgconn.consume_input()
            while notice := self._line.pgconn.notifies():
                heard = heard or notice.extra.decode() in self._bells
        except psycopg.Error:
            heard = True
        if self._line.closed:
            self._drop()
            return True
        return heard

    def _drop(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = self._seen = None
