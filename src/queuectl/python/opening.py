"""Opens, closes and reopens the queue behind `Queue`. This is the only place where the Python API opens a queue."""

import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from functools import cached_property
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from queuectl import bootstrap
from queuectl.python.errors import ClosedQueue
from queuectl.service.queue import Queue as FrontDoor
from queuectl.service.settings import Sources

_inherited: list[FrontDoor | None] = []
"""Queues that were open when this process was forked. They are kept open: closing one would disturb the parent,
because SQLite releases the locks of a file when a process closes any connection to this file.
"""


class Connection(Protocol):
    """A connection of psycopg, apsw or sqlite3."""

    @property
    def execute(self) -> Callable[..., Any]:
        """Run a statement."""

    @property
    def cursor(self) -> Callable[..., Any]:
        """Make a cursor."""


class InLoop(NamedTuple):
    """An asynchronous connection. `wait` runs a coroutine in its event loop, and waits for the result."""

    connection: Connection
    wait: Callable[[Coroutine[Any, Any, Any]], Any] | None


class Opening:
    """A queue that the first call opens, in this process, and `close` closes."""

    _opened: FrontDoor | None

    def __init__(
        self, url: str | None = None, *, token: str | None = None, insecure_http: bool = False
    ) -> None:
        self._url, self._token, self._insecure_http = url, token, insecure_http
        self._closed = False
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store. Later calls raise `ClosedQueue`. Idempotent."""
        self._closed = True
        if os.getpid() == self._process:
            with self._lock:
                opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

    def _begin(self) -> None:
        """Set the state of a queue that is not open in this process."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._opened = None

    def _open(self) -> FrontDoor:
        """The open queue of this process. If its store was missing, open it again: the store may exist now."""
        if os.getpid() != self._process:
            _inherited.append(self._opened)
            self._begin()
        with self._lock:
            if self._closed:
                raise _closed()
            if self._opened is not None and self._opened.absent:
                self._opened.close()
                self._opened = None
            if self._opened is None:
                self._opened = self._make()
            return self._opened

    def _make(self) -> FrontDoor:
        """Open the queue at the URL."""
        return bootstrap.open_queue(
            self._sources, "create", token=self._token, insecure_http=self._insecure_http, via="python"
        )

    def _opened_for(self, connection: Connection | InLoop | None) -> FrontDoor:
        """The open queue; with a connection of the caller the queue inside its transaction, and ours is not used."""
        if connection is None:
            return self._open()
        if self._closed:
            raise _closed()
        given = connection if isinstance(connection, InLoop) else InLoop(connection, None)
        return bootstrap.join_transaction(self._sources, given.connection, given.wait)

    @cached_property
    def _sources(self) -> Sources:
        return Sources({"store": self._url}, None, warnings.warn)


def _closed() -> ClosedQueue:
    return ClosedQueue("the queue is closed", "make another Queue")
