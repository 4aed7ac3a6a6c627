"""Connections to one server, lent to one caller at a time.

No request is sent twice: if a library repeats a script whose reply was lost, the script may run twice. The outcome of
a request without a reply is unknown, and only the caller knows whether it may be repeated. MOVED is an exception: a
node of a cluster that replies MOVED has not executed the request, so it is sent to the node that the reply names.

A server that becomes a replica and then a primary again has lost acknowledged writes, and keeps its connections open.
So the server is checked again when that may have happened: before a write over a connection that made no write for a
while, and on all connections after a fault on one of them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import MovedError, NoScriptError, RedisError
from redis.retry import Retry

from queuectl.errors import QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.driver.session import PooledSession
from queuectl.store.redis.address import Address
from queuectl.store.redis.faults import BROKEN, SPOKEN, RedisTranslator, is_doubtful
from queuectl.store.redis.route import Route
from queuectl.store.redis.scripts import Script, script

Word = str | bytes | int
A_TRY = 0.5
"""Time limit in seconds for one node to accept a connection."""
MOVES = 5
"""Maximum number of consecutive MOVED replies that are followed."""


class Line:
    """A connection to a server, with calls of commands and scripts. `tag` is the prefix of all keys."""

    tag = ""
    done = 0
    """The number of writing scripts that have run since the connection was lent."""
    trust: object = None
    """The session's `_trust` when the server was checked. It differs from the current one after a fault."""
    _moves = 0
    _sock: Any
    host: str
    port: int
    socket_connect_timeout: Any

    def __init__(self, *, route: Route, **options: Any) -> None:
        self._route, self._patience = route, options["socket_connect_timeout"]
        super().__init__(**options)

    def connect(self) -> None:
        """Connect to the node that last had the queue, or to another known node. All tries share one patience."""
        if self._sock:
            return
        failures: list[Exception] = []
        deadline, nodes = time.monotonic() + self._patience, self._route.nodes()
        for tried, node in enumerate(nodes):
            self.host, self.port = node
            share = (deadline - time.monotonic()) / (len(nodes) - tried)
            self.socket_connect_timeout = max(share, A_TRY)
            try:
                self._library.connect()
            except BROKEN as error:
                failures.append(error)
                self._route.avoid(node)
                if time.monotonic() > deadline:
                    break
            else:
                self._route.prefer((self.host, self.port))
                return
        raise failures[-1]

    def call(self, *words: Word) -> Any:
        """Send a command, follow MOVED, and return the reply. Raises the error of the server or of the connection."""
        for _ in range(MOVES):
            try:
                return self.say(*words)
            except MovedError as moved:
                self.follow(moved)
        return self.say(*words)

    def say(self, *words: Word) -> Any:
        """Send a command to this node and return the reply."""
        connection: Any = self  # the classes below combine this class with one of the library
        connection.send_command(*words)
        return connection.read_response()

    def leads_to_the_queue(self) -> bool:
        """Whether this node of a cluster has the queue. If not, connect to the node that has it."""
        try:
            self.say("GET", self.key("schema"))
        except MovedError as moved:
            self.follow(moved)
            return False
        return True

    def follow(self, moved: MovedError) -> None:
        """Connect to the node that `moved` names. Raises `moved` if nodes refer to each other in a circle."""
        if self._moves == MOVES:
            raise moved
        self._moves += 1
        try:
            self._library.disconnect()
            self.host, self.port = moved.host.strip("?") or self.host, moved.port
            self._library.connect()
            self._route.prefer((self.host, self.port))
        finally:
            self._moves -= 1

    def run(self, name: str, *values: Word) -> Any:
        """Run a script of this driver and return its reply."""
        return self.execute(script(name), *values)

    def execute(self, wanted: Script, *values: Word) -> Any:
        """Run a script and return its reply.

        If the server does not have the script (after a restart), send its text.
        """
        try:
            answer = self.call("EVALSHA", wanted.digest, 1, self.tag, *values)
        except NoScriptError:
            answer = self.call("EVAL", wanted.text, 1, self.tag, *values)
        self.done += not wanted.reads
        return answer

    def key(self, name: str) -> str:
        """The full name of one of the queue's keys."""
        return f"{self.tag}:{name}"

    @property
    def _library(self) -> Any:
        """The methods of the library's class for this connection."""
        return super()


class PlainLine(Line, Connection):
    """A connection over TCP."""


class TlsLine(Line, SSLConnection):
    """A connection over TLS."""


class RedisSession(PooledSession[Line]):
    """Connections to one server. `greet` checks the server before the first request.

    redis-py's pool is not used: it does not record for each connection whether the server was checked since the last
    fault.
    """

    KEPT = PooledSession.MOST

    def __init__(self, address: Address, patience: float, greet: Callable[[Line], None]) -> None:
        super().__init__(address.shown, patience)
        self.address, self._greet = address, greet
        self._translator = RedisTranslator(address)
        self.route = Route((address.host, address.port))
        self._trust = object()
        """An object that is replaced after a fault on any connection.

        Then each connection must check its server again.
        """

    def own(self) -> Any:
        """A new connection for the caller, connected and checked. The caller must disconnect it."""
        self.refuse_fork()
        self.refuse_closed()
        return self.connect()

    def connect(self) -> Any:
        """A connection to a server that was checked after the last fault."""
        connection = self._new()
        with self._translated(connecting=True, writing=False):
            connection.connect()
            if connection.trust is not self._trust:
                connection.disconnect()
                connection.connect()
        return connection

    def disconnect(self, connection: Any) -> None:
        """Close a connection."""
        connection.disconnect()

    def is_healthy(self, connection: Any) -> bool:
        """Whether the server was checked after the last fault and has not closed the connection."""
        try:
            return connection.trust is self._trust and not connection.can_read(0)
        except BROKEN:
            return False

    def is_reusable(self, connection: Any) -> bool:
        """Whether every request over the connection has its reply."""
        return connection._sock is not None

    @contextmanager
    def translated(self, connection: Any, *, writing: bool) -> Iterator[None]:
        """Translate errors of redis-py. If a part of the change was made before the error, the error reports this."""
        connection.done = 0
        try:
            with self._translated(connecting=False, writing=writing):
                yield
        except BaseException as error:
            connection.disconnect()  # because the next reply could belong to this request
            if writing and connection.done and isinstance(error, StoreUnavailable | StoreUnusable):
                raise self._translator.partly(error) from error.__cause__
            raise

    def _new(self) -> Any:
        address = self.address
        kind: Any = TlsLine if address.tls else PlainLine
        return kind(
            redis_connect_func=self._begin,
            route=self.route,
            db=address.database,
            username=address.user,
            password=address.password,
            socket_timeout=self.patience,
            socket_connect_timeout=self.patience,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="queuectl",
            driver_info=None,
        )

    def _begin(self, line: Any) -> None:
        """Greet the server over a new connection, which may lead to another server than the last one."""
        line.tag = self.address.tag
        try:
            line.on_connect()
            line.trust = self._trust
            self._check(line)
        except BaseException:
            line.disconnect()  # because otherwise the library would reuse the connection
            raise

    def _check(self, line: Any) -> None:
        try:
            self._greet(line)
        except BaseException:
            self._trust = object()
            raise

    @contextmanager
    def _translated(self, *, connecting: bool, writing: bool) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            if not connecting and is_doubtful(error):
                self._trust = object()
            raise self._in_words(error, connecting=connecting, writing=writing) from error

    def _in_words(self, error: Exception, *, connecting: bool, writing: bool) -> QueuectlError:
        if isinstance(error, SPOKEN) or not isinstance(error, BROKEN):
            return self._translator.refused(error)
        self.answers = False
        return self._translator.unreachable(error) if connecting else self._translator.lost(writing=writing)
