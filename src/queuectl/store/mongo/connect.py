"""The session for one database: pymongo's client and its pool, with a limit to each wait and a translation of each
error.

The writes that were sent decide whether a failed verb may have changed something: a verb that fails before its first
write has changed nothing, a later failure may leave a change. New job numbers and notifications do not count.
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
ASIDE = frozenset(("counters", "bells", "rings", "events"))
"""Collections whose writes do not count as a change."""
SHORTEST = 0.1
FIRST_LOOK = 1.0
"""Seconds for which a server that refuses connections is tried again before it is reported as down."""
LONGEST_PATIENCE = 600.0
SAFE, FAST = WriteConcern("majority", j=True), WriteConcern(1, j=False)
STRANGER = (13, 18)
"""Error codes of a server that does not accept the user (any more), or denies a right."""
FAREWELL = 1.0
"""Time limit in seconds for closing connections. Later the server notices the end by itself."""


class _PlainNumber(TypeDecoder):
    """Decodes 64-bit numbers as int, because JSON encoders do not accept the special type of pymongo."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        """Convert a number to a plain int."""
        return int(value)


PLAIN: "CodecOptions[Document]" = CodecOptions(tz_aware=True, type_registry=TypeRegistry([_PlainNumber()]))
"""The options for decoding documents, for every collection of a queue or an archive."""
_AS_SENT: "CodecOptions[Document]" = CodecOptions(tz_aware=True)


def for_changing_one(collection: "Collection[Document]") -> "Collection[Document]":
    """The collection as `find_one_and_update` needs it: 64-bit numbers in its answer are still the driver's type.

    With type decoders, pymongo 4.20 does not raise the error of a write that the majority did not confirm when that
    carries labels, as it does while a primary steps down: it raises an AttributeError of its own instead.
    """
    return collection.with_options(codec_options=_AS_SENT)


class Outbox(monitoring.CommandListener):
    """Records for each thread whether it has sent a write, and whether the server answered one."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def wrote(self) -> bool:
        """Whether this thread has sent a write since `clear`."""
        return bool(getattr(self._thread, "wrote", False))

    @property
    def changed(self) -> bool:
        """Whether the server reported that it did a write, even if only for a part of a batch."""
        return bool(getattr(self._thread, "changed", False))

    def clear(self) -> None:
        """Forget the writes of the last verb."""
        self._thread.wrote = self._thread.changed = self._thread.matters = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Called by pymongo before a command is sent."""
        name = event.command_name
        self._thread.matters = name in WRITES and event.command[name] not in ASIDE
        self._thread.wrote = self.wrote or self._thread.matters

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Called by pymongo after a reply. A count of 0 means that the whole batch was refused."""
        reply = event.reply
        count = reply.get("n", reply.get("lastErrorObject", {}).get("n", 1))
        self._thread.changed = self.changed or (getattr(self._thread, "matters", False) and count > 0)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Record nothing: a failure here does not show that the command failed on the server."""


class MongoSession(Session[Base]):
    """One client of pymongo, created at its first use. `greet` checks the server before the first verb.

    The client has a pool of its own, so this session lends the client to all callers at once, and counts them.
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

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:
        """Call `work`. If `writing`, the commands that were sent show whether something was changed. A verb that reads
        may complete what others have begun, which changes nothing for its caller.
        """
        return self._try(work, args, self.patience, writing=writing)

    def unhurried(self, work: Callable[[Base, *Arguments], Answer], *args: *Arguments) -> Answer:
        """Call `work`, which reads, with a time limit of ten minutes."""
        return self._try(work, args, LONGEST_PATIENCE, writing=False)

    def follow(self, listen: Callable[[Base], Answer]) -> Answer:
        """Listen without a time limit; each single request ends within the patience."""
        return self._try(listen, (), None, writing=False)

    def greet_again(self) -> None:
        """Check the server again, as on the first connection."""
        self._greeted = False
        self.read(lambda _: None)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        super().close()
        self._let_go(at_once=True)

    def _let_go(self, *, at_once: bool) -> None:
        """Let the next caller create a new client. The current client is closed now, or after its last verb."""
        with self._lock:
            client, self._client = self._client, None
            if client is None:
                return
            client.retired = True
            if client.users and not at_once:
                return
        client.end()

    def _try(
        self, work: Callable[..., Answer], args: tuple[Any, ...], patience: float | None, *, writing: bool
    ) -> Answer:
        """Call `work` when the server answers. If the connection breaks before a write was sent, call `work` again."""
        self._outbox.clear()
        deadline = boottime() + (patience or LONGEST_PATIENCE)
        with self._translated(writing=writing), self._lent() as base:
            while True:
                try:
                    with pymongo.timeout(max(SHORTEST, deadline - boottime()) if patience else None):
                        self._get_ready(base, deadline)
                        answer = work(base, *args)
                    break
                except AutoReconnect:
                    if (writing and self._outbox.wrote) or boottime() >= deadline:
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
        """Create a client. Raises an error for an invalid option, for which pymongo would only print a warning."""
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
            retryReads=False,  # `_try` does the retries, and reports early that the server is down
            connectTimeoutMS=int(max(self.patience, FIRST_LOOK) * 1000),
            minPoolSize=0,
            maxPoolSize=16,
            appname="queuectl",
            tz_aware=True,
            event_listeners=[self._outbox],
        )

    def _get_ready(self, base: Base, deadline: float) -> None:
        """Wait for a usable server. If no server can become usable, raise an error before the end of the patience."""
        while not (self._greeted and base.client.topology_description.has_writable_server()):
            try:
                with pymongo.timeout(min(FIRST_LOOK, self.patience)):
                    _ = base.client.is_primary  # sends no command, but waits until a server is found
                break
            except ServerSelectionTimeoutError as error:
                if boottime() >= deadline or self._translator.is_final(error, _refusals(base)):
                    raise self._translator.no_server(error, _refusals(base)) from error
        self._introduce(base)

    def _introduce(self, base: Base) -> None:
        """Greet the server. Writes of the greeting are idempotent, so they do not count as writes of the verb."""
        if self._greeted:
            return
        try:
            self._greet(base)
        finally:
            self._outbox.clear()
        self._greeted = True

    @contextmanager
    def _translated(self, *, writing: bool) -> Iterator[None]:
        try:
            yield
        except (PyMongoError, BSONError, OverflowError, UnicodeEncodeError) as error:
            raise self._said(error, writing=writing) from error
        except (MsgspecError, KeyError) as error:
            raise self._translator.unreadable(error) from error

    def _said(self, error: Exception, *, writing: bool) -> QueuectlError:
        client, outbox = self._client, self._outbox
        refusals = [] if client is None else _refusals(client.client[self.address.database])
        if isinstance(error, OperationFailure) and error.code in STRANGER:
            self._let_go(
                at_once=False
            )  # because old connections do not accept a user who was deleted and created again
        fault = self._translator.translate(
            error, refusals, wrote=writing and outbox.wrote, changed=writing and outbox.changed
        )
        self.answers = self.answers and not isinstance(fault, StoreUnavailable)
        return fault


class Client:
    """A client of pymongo, and the number of verbs that use it now."""

    def __init__(self, client: "MongoClient[Document]") -> None:
        self.client = client
        self.users = 0
        self.retired = False

    def end(self) -> None:
        """Close the connections of the client."""
        with pymongo.timeout(FAREWELL):
            self.client.close()


def _refusals(base: Base) -> list[Exception]:
    """The error that makes each known server unusable, if pymongo has found one."""
    servers = base.client.topology_description.server_descriptions().values()
    return [server.error for server in servers if server.error is not None]
