"""Notice what others change: by messages where we can subscribe, by looks at the bells' counters where not.

A subscription that is silent for long is asked whether it lives; where it does not, another one is made.

Rings are rare on purpose (a script lets a bell ring once in 50 ms), so after each one heard a later wait ends by itself
a moment later. A handle that claims is a worker, and hears only of work.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError

from queuectl.clock import random_number
from queuectl.store.driver.self_pipe import SelfPipe
from queuectl.store.redis.connect import Line, RedisSession

ECHO = 0.1
"""Seconds after a ring in which another one may have been left out."""
POLL = 0.25
"""Seconds between two looks at the counters, spread by a fifth."""
REGARDLESS = 5.0
"""Seconds after which a wait ends though nothing was heard, spread by a fifth: a connection may be dead in silence."""
BELLS = ("work", "end")


class Listener:
    """`wait` returns when something may have changed; `wake` lets it return at once."""

    def __init__(
        self, connections: RedisSession, listens: bool, random_number: Callable[[], float] = random_number
    ) -> None:
        self._connections, self._listens, self._random_number = connections, listens, random_number
        self._pipe, self._lock = SelfPipe(), threading.Lock()
        self._bells: tuple[str, ...] = BELLS
        self._line: Any = None
        self._unanswered = False
        self._seen: dict[str, int] | None = None
        self._echo: float | None = None
        self._unasked = 0.0

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

    def close(self) -> None:
        """Hear nothing any more."""
        with self._lock:
            self._drop()

    def _socket(self) -> int | None:
        line = self._line  # another thread may be closing it
        socket = None if line is None else line._sock
        return None if socket is None else socket.fileno()

    def _pause(self) -> float:
        """Seconds until there is something to look at without being told."""
        now = time.monotonic()
        echo = REGARDLESS if self._echo is None else max(0.0, self._echo - now)
        poll = REGARDLESS if self._line else POLL * self._spread()
        return min(echo, poll, max(0.0, self._unasked - now))

    def _spread(self) -> float:
        return 0.8 + 0.4 * self._random_number()

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
            elif now < self._unasked:
                return False
            else:
                self._make_sure()
            self._unasked = now + REGARDLESS * self._spread()
            return True

    @property
    def follows(self) -> bool:
        """Whether it is told, and need not look."""
        return self._line is not None

    def _begin(self) -> bool:
        """Nobody knows what changed before this first look."""
        if self._listens:
            self._line = self._subscribed()
        self._seen = self._rings()
        self._unasked = time.monotonic() + REGARDLESS * self._spread()
        return True

    def _subscribed(self) -> Any:
        """A connection that is told; None where that cannot be had now, or never."""
        line, self._unanswered = self._connections.own(), False
        try:
            line.call("SUBSCRIBE", line.key("bells"))
        except (RedisError, OSError) as error:
            self._listens = not isinstance(error, ResponseError)  # a user who may not
            line.disconnect()
            return None
        return line

    def _make_sure(self) -> None:
        """Ask for a sign of life, or give up who has not given one since the last time."""
        if self._line is None:
            self._seen = None if self._listens else self._seen
        elif self._unanswered:
            self._drop()
        else:
            self._unanswered = True
            with suppress(RedisError, OSError):  # it is found out when it is listened to
                self._line.send_command("PING")

    def _rings(self) -> dict[str, int]:
        return self._connections.read(_rings)

    def _looked(self) -> bool:
        before, self._seen = self._seen or {}, self._rings()
        return any(self._seen.get(bell) != before.get(bell) for bell in self._bells)

    def _heard(self) -> bool:
        heard = False
        try:
            while self._line.can_read(0):
                message = self._line.read_response()
                self._unanswered = False
                heard = heard or (message[0] == b"message" and message[2].decode() in self._bells)
        except (RedisError, OSError):
            self._drop()
            return True
        return heard

    def _drop(self) -> None:
        if self._line is not None:
            self._line.disconnect()
        self._line = self._seen = None


def _rings(line: Line) -> dict[str, int]:
    flat = line.call("HGETALL", line.key("bells"))
    return {bell.decode(): int(count) for bell, count in zip(flat[::2], flat[1::2], strict=True)}
