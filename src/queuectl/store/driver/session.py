"""Lends connections to one store. A connection is lent to one caller at a time, for one read or one write.

The guards for all drivers are here: a session refuses use in the child of a fork, where one connection would serve two
processes, and after it was closed. In its `connect.py` each driver makes a connection, checks whether it is still good,
and translates its errors.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar, TypeVarTuple

from queuectl.errors import StoreUnavailable, StoreUnusable

Connection = TypeVar("Connection")
Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")
PATIENCE = 10.0
"""Seconds that one call may wait for a busy store."""


class Session(ABC, Generic[Connection]):
    """The base of all sessions. `shown` names the store in messages, without a password.

    `answers` is False while the store cannot be reached: from a failure to the next success.
    """

    def __init__(self, shown: str, patience: float) -> None:
        self.shown, self.patience = shown, patience
        self.answers = True
        self._process = os.getpid()
        self._closed = False

    def read(self, work: Callable[[Connection, *Arguments], Answer], *args: *Arguments) -> Answer:
        """Call `work`, which changes nothing, with a connection and these arguments, and return its result."""
        return self.perform(work, args, writing=False)

    def write(self, work: Callable[[Connection, *Arguments], Answer], *args: *Arguments) -> Answer:
        """Call `work`, which changes something, and return its result. Raises OutcomeUnknown if the reply is lost."""
        return self.perform(work, args, writing=True)

    def unhurried(self, work: Callable[[Connection, *Arguments], Answer], *args: *Arguments) -> Answer:
        """Call `work`, which reads and may take minutes, and return its result."""
        return self.read(work, *args)

    @abstractmethod
    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:
        """Call `work` with a connection. Each driver implements this."""

    def close(self) -> None:
        """Close the session. All later use is refused. Idempotent."""
        self._closed = True

    def refuse_fork(self) -> None:
        """Raise in a child of the process that opened the store."""
        if os.getpid() != self._process:
            raise StoreUnusable(
                f"{self.shown} was opened before a fork", "open the store in the process that uses it"
            )

    def refuse_use(self) -> None:
        """Raise after a fork, and after `close`."""
        self.refuse_fork()
        self.refuse_closed()

    def refuse_closed(self) -> None:
        """Raise after `close`."""
        if self._closed:
            raise closed(self.shown)


def closed(shown: str) -> StoreUnavailable:
    """The error for the use of a closed store."""
    return StoreUnavailable(f"{shown} was closed already")


class PooledSession(Session[Connection]):
    """A session with its own pool: at most `MOST` connections, of which at most `KEPT` idle ones are kept."""

    KEPT, MOST = 4, 16

    def __init__(self, shown: str, patience: float) -> None:
        super().__init__(shown, patience)
        self._idle: list[Connection] = []
        self._lent = self._waiting = 0
        self._lock = threading.Lock()
        """Guards the three attributes above, and `_closed`."""
        self._returned = threading.Condition(self._lock)

    @abstractmethod
    def connect(self) -> Connection:
        """A new connection, ready for use."""

    @abstractmethod
    def disconnect(self, connection: Connection) -> None:
        """Close a connection."""

    @abstractmethod
    def is_healthy(self, connection: Connection) -> bool:
        """Whether a connection that was idle may be lent."""

    @abstractmethod
    def is_reusable(self, connection: Connection) -> bool:
        """Whether a returned connection may be lent again."""

    @abstractmethod
    def translated(self, connection: Connection, *, writing: bool) -> AbstractContextManager[object]:
        """A context in which errors of the library are translated."""

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:
        """Call `work` with a lent connection."""
        connection = self.lend()
        try:
            with self.translated(connection, writing=writing):
                answer = work(connection, *args)
        finally:
            self.give_back(connection)
        self.answers = True
        return answer

    def lend(self) -> Connection:
        """Lend a connection to the caller, who must give it back."""
        self.refuse_fork()
        with self._lock:
            if self._lent >= self.MOST:
                self._wait_for_return()
            self.refuse_closed()
            self._lent += 1
        try:
            while (connection := self._take_idle()) is not None:
                if self.is_healthy(connection):
                    return connection
                self.disconnect(connection)
            return self.connect()
        except BaseException:
            with self._lock:
                self._count_return()
            raise

    def give_back(self, connection: Connection) -> None:
        """Take a lent connection back: keep it for the next call, or close it."""
        reusable = self.is_reusable(connection)
        with self._lock:
            kept = reusable and not self._closed and len(self._idle) < self.KEPT
            if kept:
                self._idle.append(connection)
                self._count_return()
        if not kept:
            self.disconnect(connection)
            with self._lock:
                self._count_return()

    def close(self) -> None:
        """Close idle connections now, and lent connections when they are given back. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._returned.notify_all()
        for connection in idle:
            self.disconnect(connection)

    def _take_idle(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _wait_for_return(self) -> None:
        self._waiting += 1
        try:
            if not self._returned.wait_for(lambda: self._closed or self._lent < self.MOST, self.patience):
                raise StoreUnavailable(f"{self.shown}: {self.MOST} connections of this process are all busy")
        finally:
            self._waiting -= 1

    def _count_return(self) -> None:
        """Count a lent connection that was given back or closed. The caller has the lock."""
        self._lent -= 1
        if self._waiting:
            self._returned.notify()
