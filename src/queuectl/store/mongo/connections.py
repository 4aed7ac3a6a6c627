"""The way to one database: MongoDB's own client and its pool, with an end to every wait and a name for every fault.

Whether something was changed is known by what was sent: a verb that fails before its first write has changed nothing,
one that fails later may have.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pymongo
from pymongo import MongoClient, monitoring
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import split_options
from pymongo.write_concern import WriteConcern

from queuectl.clock import boottime
from queuectl.errors import QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.mongo.address import Address
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import Place

Answer = TypeVar("Answer")
Base = Database[Document]
WRITES = frozenset(("insert", "update", "delete", "findAndModify"))
FIRST_LOOK = 1.0
"""Seconds for which a server that refuses is asked again before it is said to be down."""
LONGEST_PATIENCE = 600.0
STRANGER = (13, 18)
"""Codes with which a server says that it does not know us (any more), or not for this."""
FAREWELL = 1.0
"""Seconds for which a server is told that we leave; it finds out by itself, later."""


class Outbox(monitoring.CommandListener):
    """Remembers, for each thread, whether it has sent a write."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def wrote(self) -> bool:
        """Whether this thread has sent a write since `clear`."""
        return bool(getattr(self._thread, "wrote", False))

    def clear(self) -> None:
        """Another verb begins."""
        self._thread.wrote = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """The driver is about to send a command."""
        if event.command_name in WRITES:
            self._thread.wrote = True

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note: that it failed here does not say that it failed there."""


class Connections:
    """One client, made when it is first needed. `greet` looks the server over before anything is asked of it."""

    def __init__(
        self, address: Address, concern: WriteConcern, patience: float, greet: Callable[[Base], None]
    ) -> None:
        self.address, self._concern, self._patience, self._greet = address, concern, patience, greet
        self._place = Place(address)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._client: MongoClient[Document] | None = None
        self._greeted = self._closed = False
        self._outbox = Outbox()
        self.answers = True

    def read(self, question: Callable[[Base], Answer]) -> Answer:
        """Ask something."""
        return self._try(question)

    def write(self, change: Callable[[Base], Answer]) -> Answer:
        """Change something. Raises OutcomeUnknown if a write was sent and what became of it is not known."""
        return self._try(change)

    def unhurried(self, question: Callable[[Base], Answer]) -> Answer:
        """Ask something that may take its time: ten minutes."""
        with pymongo.timeout(LONGEST_PATIENCE):
            return self._try(question)

    def greet_again(self) -> None:
        """Look the server over, as if it had never been seen."""
        self._greeted = False
        self.read(lambda _: None)

    def close(self) -> None:
        """Let go of all connections. Twice is once."""
        with self._lock:
            self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with pymongo.timeout(FAREWELL):
                client.close()

    def _try(self, work: Callable[[Base], Answer]) -> Answer:
        """Do it once the server answers. Broken off before it has sent a write, it begins again."""
        self._outbox.clear()
        deadline = boottime() + self._patience
        with self._translated():
            base = self._base()
            while True:
                if not (self._greeted and base.client.topology_description.has_writable_server()):
                    self._meet(base, deadline)
                try:
                    self._introduce(base)
                    answer = work(base)
                    break
                except AutoReconnect:
                    if self._outbox.wrote or boottime() >= deadline:
                        raise
        self.answers = True
        return answer

    def _base(self) -> Base:
        """In the child of a fork a client would answer two processes."""
        if os.getpid() != self._process:
            raise StoreUnusable("the store was opened before a fork", "open it in the process that uses it")
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self.address.shown} was closed already")
            if self._client is None:
                self._client = self._make()
            return self._client.get_database(self.address.database, write_concern=self._concern)

    def _make(self) -> "MongoClient[Document]":
        """The driver only warns of an option that it does not know or understand, and goes on without it."""
        options = self.address.url.partition("?")[2]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if options:
                    split_options(options)  # raises
                return self._client_of_url()
        except (ValueError, TypeError, OSError) as error:
            raise ConfigurationError(str(error)) from error

    def _client_of_url(self) -> "MongoClient[Document]":
        return MongoClient(
            self.address.url,
            timeoutMS=int(self._patience * 1000),
            serverSelectionTimeoutMS=int(self._patience * 1000),
            retryReads=False,  # `_try` does, and says soon if the server is down
            connectTimeoutMS=int(max(self._patience, FIRST_LOOK) * 1000),
            minPoolSize=0,
            maxPoolSize=16,
            appname="queuectl",
            tz_aware=True,
            event_listeners=[self._outbox],
        )

    def _meet(self, base: Base, deadline: float) -> None:
        """Wait for a server. One that is not there is said to be so soon, and not at the end of all patience."""
        while True:
            try:
                with pymongo.timeout(min(FIRST_LOOK, self._patience)):
                    _ = base.client.is_primary  # this does not ask the server, but waits until there is one
                break
            except ServerSelectionTimeoutError as error:
                if boottime() >= deadline or self._place.is_plain(error, _refusals(base)):
                    raise self._place.unreachable(error, _refusals(base)) from error

    def _introduce(self, base: Base) -> None:
        """Whatever this writes may be written again: it is no verb's."""
        if self._greeted:
            return
        try:
            self._greet(base)
        finally:
            self._outbox.clear()
        self._greeted = True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            raise self._said(error) from error

    def _said(self, error: PyMongoError) -> QueuectlError:
        client = self._client
        if isinstance(error, OperationFailure) and error.code in STRANGER:
            self._let_go()  # a user who is made anew is not known on connections of before
        refusals = [] if client is None else _refusals(client[self.address.database])
        fault = self._place.said(error, refusals, wrote=self._outbox.wrote)
        self.answers = self.answers and not isinstance(fault, StoreUnavailable)
        return fault


def _refusals(base: Base) -> list[Exception]:
    """Why each server that is known of cannot be used, as far as the driver knows."""
    servers = base.client.topology_description.server_descriptions().values()
    return [server.error for server in servers if server.error is not None]
