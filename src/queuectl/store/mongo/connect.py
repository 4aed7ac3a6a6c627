"""The way to one database: MongoDB's own client and its pool, with an end to every wait and a name for every fault.

Whether something was changed is known by what was sent: a verb that fails before its first write has changed nothing,
one that fails later may have. Numbers that are drawn and bells that are rung do not count.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import pymongo
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import BSONError
from bson.int64 import Int64
from msgspec import MsgspecError
from pymongo import MongoClient, monitoring
from pymongo.collection import Collection
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
from queuectl.errors import QueuectlError, StoreUnavailable
from queuectl.store.driver.session import Session
from queuectl.store.mongo.address import Address
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import MongoTranslator

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")
Base = Database[Document]
WRITES = frozenset(("insert", "update", "delete", "findAndModify"))
ASIDE = frozenset(("counters", "bells", "rings"))
"""Collections in which a write changes nothing that anybody asked for."""
SHORTEST = 0.1
FIRST_LOOK = 1.0
"""Seconds for which a server that refuses is asked again before it is said to be down."""
LONGEST_PATIENCE = 600.0
SAFE, FAST = WriteConcern("majority", j=True), WriteConcern(1, j=False)
STRANGER = (13, 18)
"""Codes with which a server says that it does not know us (any more), or not for this."""
FAREWELL = 1.0
"""Seconds for which a server is told that we leave; it finds out by itself, later."""


class _PlainNumber(TypeDecoder):
    """The driver answers a number of 64 bits as a type of its own, which no encoder of JSON knows."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        """The number as every other store answers it."""
        return int(value)


PLAIN: "CodecOptions[Document]" = CodecOptions(tz_aware=True, type_registry=TypeRegistry([_PlainNumber()]))
"""How documents are decoded, for every collection of a queue or an archive."""
_AS_SENT: "CodecOptions[Document]" = CodecOptions(tz_aware=True)


def for_changing_one(collection: "Collection[Document]") -> "Collection[Document]":
    """The collection as `find_one_and_update` needs it: 64-bit numbers in its answer are still the driver's type.

    With type decoders, pymongo 4.20 does not raise the error of a write that the majority did not confirm when that
    carries labels, as it does while a primary steps down: it ends in an AttributeError of its own.
    """
    return collection.with_options(codec_options=_AS_SENT)


class Outbox(monitoring.CommandListener):
    """Remembers, for each thread, whether it has sent a write, and whether one was answered."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def wrote(self) -> bool:
        """Whether this thread has sent a write since `clear`."""
        return bool(getattr(self._thread, "wrote", False))

    @property
    def changed(self) -> bool:
        """Whether the server has said that it did one: in a part of a batch, perhaps."""
        return bool(getattr(self._thread, "changed", False))

    def clear(self) -> None:
        """Another verb begins."""
        self._thread.wrote = self._thread.changed = self._thread.matters = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """The driver is about to send a command."""
        name = event.command_name
        self._thread.matters = name in WRITES and event.command[name] not in ASIDE
        self._thread.wrote = self.wrote or self._thread.matters

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """It did so for as many documents as it says: for a batch that was refused as a whole, none."""
        reply = event.reply
        count = reply.get("n", reply.get("lastErrorObject", {}).get("n", 1))
        self._thread.changed = self.changed or (getattr(self._thread, "matters", False) and count > 0)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note: that it failed here does not say that it failed there."""


class MongoSession(Session[Base]):
    """One client of pymongo, made when it is first needed. `greet` checks the server before anything is asked of it.

    The client has a pool of its own, so this session lends the client to everybody at once and counts its users.
    """

    def __init__(
        self, address: Address, concern: WriteConcern, patience: float, greet: Callable[[Base], None]
    ) -> None:
        super().__init__(address.shown, patience)
        self.address, self._concern, self._greet = address, concern, greet
        self._translator = MongoTranslator(address)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._greeted = False
        self._outbox = Outbox()

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:  # noqa: ARG002
        """What was sent tells whether something was changed, not what the caller had in mind."""
        return self._try(work, args, self.patience)

    def unhurried(self, work: Callable[[Base, *Arguments], Answer], *args: *Arguments) -> Answer:
        """Read something for up to ten minutes."""
        return self._try(work, args, LONGEST_PATIENCE)

    def follow(self, listen: Callable[[Base], Answer]) -> Answer:
        """Listen without an end; each single question ends within our patience."""
        return self._try(listen, (), None)

    def greet_again(self) -> None:
        """Check the server, as if it had never been seen."""
        self._greeted = False
        self.read(lambda _: None)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        super().close()
        self._let_go(at_once=True)

    def _let_go(self, *, at_once: bool) -> None:
        """Another client for whoever comes next; this one ends now, or with the last verb that uses it."""
        with self._lock:
            client, self._client = self._client, None
            if client is None:
                return
            client.retired = True
            if client.users and not at_once:
                return
        client.end()

    def _try(self, work: Callable[..., Answer], args: tuple[Any, ...], patience: float | None) -> Answer:
        """Do it once the server answers. Interrupted before it has sent a write, it begins again."""
        self._outbox.clear()
        deadline = boottime() + (patience or LONGEST_PATIENCE)
        with self._translated(), self._lent() as base:
            while True:
                try:
                    with pymongo.timeout(max(SHORTEST, deadline - boottime()) if patience else None):
                        self._get_ready(base, deadline)
                        answer = work(base, *args)
                    break
                except AutoReconnect:
                    if self._outbox.wrote or boottime() >= deadline:
                        raise
        self.answers = True
        return answer

    @contextmanager
    def _lent(self) -> Iterator[Base]:
        self.refuse_fork()
        with self._lock:
            self.refuse_closed()
            client = self._client = self._client or Client(self._make())
            client.users += 1
        try:
            yield client.client.get_database(
                self.address.database, codec_options=PLAIN, write_concern=self._concern
            )
        finally:
            with self._lock:
                client.users -= 1
                last = client.retired and not client.users
            if last:
                client.end()

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
            timeoutMS=int(self.patience * 1000),
            serverSelectionTimeoutMS=int(self.patience * 1000),
            retryReads=False,  # `_try` does, and says soon if the server is down
            connectTimeoutMS=int(max(self.patience, FIRST_LOOK) * 1000),
            minPoolSize=0,
            maxPoolSize=16,
            appname="queuectl",
            tz_aware=True,
            event_listeners=[self._outbox],
        )

    def _get_ready(self, base: Base, deadline: float) -> None:
        """Wait for a server. One that is not there is said to be so soon, and not at the end of all patience."""
        while not (self._greeted and base.client.topology_description.has_writable_server()):
            try:
                with pymongo.timeout(min(FIRST_LOOK, self.patience)):
                    _ = base.client.is_primary  # this does not ask the server, but waits until there is one
                break
            except ServerSelectionTimeoutError as error:
                if boottime() >= deadline or self._translator.is_final(error, _refusals(base)):
                    raise self._translator.no_server(error, _refusals(base)) from error
        self._introduce(base)

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
        except (PyMongoError, BSONError, OverflowError, UnicodeEncodeError) as error:
            raise self._said(error) from error
        except (MsgspecError, KeyError) as error:
            raise self._translator.unreadable(error) from error

    def _said(self, error: Exception) -> QueuectlError:
        client, outbox = self._client, self._outbox
        refusals = [] if client is None else _refusals(client.client[self.address.database])
        if isinstance(error, OperationFailure) and error.code in STRANGER:
            self._let_go(at_once=False)  # a user who is made anew is not known on connections of before
        fault = self._translator.translate(error, refusals, wrote=outbox.wrote, changed=outbox.changed)
        self.answers = self.answers and not isinstance(fault, StoreUnavailable)
        return fault


class Client:
    """A client of the driver's, and how many verbs use it at this moment."""

    def __init__(self, client: "MongoClient[Document]") -> None:
        self.client = client
        self.users = 0
        self.retired = False

    def end(self) -> None:
        """Close its connections."""
        with pymongo.timeout(FAREWELL):
            self.client.close()


def _refusals(base: Base) -> list[Exception]:
    """Why each server that is known of cannot be used, as far as the driver knows."""
    servers = base.client.topology_description.server_descriptions().values()
    return [server.error for server in servers if server.error is not None]
