"""Receives changes from Redis: by messages if a subscription is possible, otherwise by polling counters.

The scripts that change jobs raise the counter of a topic and publish a message, at most once in 50 ms for each topic.

Messages are lossy: a connection may die unnoticed, and the server may disconnect a subscriber that reads too slowly.
So the client sends a PING on a connection without a message for `SAFETY_POLL` seconds, and replaces the connection if
no reply came by the next check. If a subscription fails, it is tried again at the same interval; meanwhile the
counters are polled.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import inf
from typing import Any

from redis.exceptions import RedisError, ResponseError

from queuectl.domain.topics import Topic, Topics
from queuectl.store.driver import notifier
from queuectl.store.driver.notifier import Lost, Source, counted, spread, topics_of
from queuectl.store.redis.connect import Line, RedisSession

_CHANNEL = "bells"
"""The name of the channel, and of the hash of the counters."""


class Listener(Source):
    """The source of changes of one queue, with its own connection. With `listens=False` it only polls the counters."""

    def __init__(self, session: RedisSession, *, listens: bool) -> None:
        self._session, self._listens = session, listens
        self._line: Any = None
        self._silent = False
        self._check_at = inf

    @property
    def is_subscribed(self) -> bool:
        """Whether there is a connection that receives messages."""
        return self._line is not None

    def connect(self) -> None:
        self.close()
        if self._listens:
            self._line = self._subscribed()
        self._check_later()

    def _subscribed(self) -> Any:
        """A connection that receives messages, or None if a subscription is not possible."""
        line, self._silent = self._session.own(), False
        try:
            line.call("SUBSCRIBE", line.key(_CHANNEL))
        except (RedisError, OSError) as error:
            self._listens = not isinstance(error, ResponseError)  # the user lacks the right to subscribe
            line.disconnect()
            return None
        return line

    def descriptor(self) -> int | None:
        return None if self._line is None else self._line._sock.fileno()

    def interval(self) -> float:
        return super().interval() if self._line is None else self._check_at - time.monotonic()

    def drain(self) -> Topics | None:
        if self._line is None:
            if self._listens and time.monotonic() >= self._check_at:
                raise Lost
            return None
        try:
            heard = topics_of(self._messages())
            if heard:
                self._check_later()
            elif time.monotonic() >= self._check_at:
                self._check()
        except (RedisError, OSError) as error:
            self.close()
            raise Lost from error
        return heard

    def _messages(self) -> Iterator[str]:
        while self._line.can_read(0):
            message = self._line.read_response()
            self._silent = False
            if message[0] == b"message":
                yield message[2].decode()

    def _check(self) -> None:
        """Send a PING. Raises an error if the last PING got no reply."""
        if self._silent:
            self.close()
            raise Lost
        self._silent = True
        self._check_later()
        with suppress(RedisError, OSError):  # ignored, because the next read raises the same error
            self._line.send_command("PING")

    def _check_later(self) -> None:
        self._check_at = time.monotonic() + notifier.SAFETY_POLL * spread()

    def counters(self) -> Mapping[Topic, int]:
        return counted(self._session.read(_counters))

    def close(self) -> None:
        if self._line is not None:
            self._line.disconnect()
        self._line = None


def _counters(line: Line) -> list[tuple[str, int]]:
    flat = line.call("HGETALL", line.key(_CHANNEL))
    return [(name.decode(), int(count)) for name, count in zip(flat[::2], flat[1::2], strict=True)]
