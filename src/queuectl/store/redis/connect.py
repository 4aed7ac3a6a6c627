"""Connections to one server, lent to one caller at a time by the client library's pool.

Nothing is ever sent twice: a library that repeats a script whose reply was lost would do it twice. What was sent and
not answered is unknown, and only the caller knows that it may ask again. But what a node of a cluster answers with
MOVED it has not done: that is asked of the node that it names.

A server that becomes a replica and a primary again has lost what it had acknowledged, and closes no connection. So the
server is looked over again where that may have happened: before a change over a connection over which nothing was
changed for a while, and over all of them after one has met with trouble.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import MovedError, NoScriptError, RedisError
from redis.retry import Retry

from queuectl.errors import QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.redis.address import Address
from queuectl.store.redis.faults import BROKEN, SPOKEN, Place, is_doubtful
from queuectl.store.redis.route import Route
from queuectl.store.redis.scripts import Script, script

Answer = TypeVar("Answer")
Word = str | bytes | int
MOST = 16
A_TRY = 0.5
"""Seconds in which a node that is there lets us in."""
MOVES = 5
"""How often in a row a cluster may send us to another node."""


class Line:
    """A connection, and how things are asked over it. `tag` begins all keys."""

    tag = ""
    done = 0
    """How many scripts that change something have run since it was lent."""
    trust: object = None
    """Another one than that of the pool after there was trouble over some connection."""
    _moves = 0
    _sock: Any
    host: str
    port: int
    socket_connect_timeout: Any

    def __init__(self, *, route: Route, **options: Any) -> None:
        self._route, self._patience = route, options["socket_connect_timeout"]
        super().__init__(**options)

    def connect(self) -> None:
        """To where the queue was last, or to whoever else may know it: one patience is for all of them."""
        if self._sock:
            return
        failures: list[Exception] = []
        deadline, places = time.monotonic() + self._patience, self._route.places()
        for tried, place in enumerate(places):
            self.host, self.port = place
            share = (deadline - time.monotonic()) / (len(places) - tried)
            self.socket_connect_timeout = max(share, A_TRY)
            try:
                self._library.connect()
            except BROKEN as error:
                failures.append(error)
                self._route.avoid(place)
                if time.monotonic() > deadline:
                    break
            else:
                self._route.settle((self.host, self.port))
                return
        raise failures[-1]

    def call(self, *words: Word) -> Any:
        """What a command answers. Raises what the server says, or that the connection broke."""
        for _ in range(MOVES):
            try:
                return self.say(*words)
            except MovedError as moved:
                self.follow(moved)
        return self.say(*words)

    def say(self, *words: Word) -> Any:
        """The same, of this very node."""
        connection: Any = self  # the library's, in the classes below
        connection.send_command(*words)
        return connection.read_response()

    def leads_to_the_queue(self) -> bool:
        """Whether this node of a cluster has the queue; else the line leads to the one that has, and is greeted."""
        try:
            self.say("GET", self.key("schema"))
        except MovedError as moved:
            self.follow(moved)
            return False
        return True

    def follow(self, moved: MovedError) -> None:
        """Connect to the node that has what was asked for; `moved` again if they send us round."""
        if self._moves == MOVES:
            raise moved
        self._moves += 1
        try:
            self._library.disconnect()
            self.host, self.port = moved.host.strip("?") or self.host, moved.port
            self._library.connect()
            self._route.settle((self.host, self.port))
        finally:
            self._moves -= 1

    def run(self, name: str, *values: Word) -> Any:
        """The answer of a script of the Redis driver."""
        return self.execute(script(name), *values)

    def execute(self, wanted: Script, *values: Word) -> Any:
        """The answer of a script. A server that does not know it, as after a restart, is sent its text."""
        try:
            answer = self.call("EVALSHA", wanted.digest, 1, self.tag, *values)
        except NoScriptError:
            answer = self.call("EVAL", wanted.text, 1, self.tag, *values)
        self.done += not wanted.reads
        return answer

    def key(self, name: str) -> str:
        """One of the queue's keys."""
        return f"{self.tag}:{name}"

    @property
    def _library(self) -> Any:
        """The same connection, as the library has it."""
        return super()


class PlainLine(Line, Connection):
    """Over TCP."""


class TlsLine(Line, SSLConnection):
    """Over TLS."""


class Connections:
    """Makes, lends and keeps connections. `greet` looks the server over before anything is asked of it."""

    def __init__(self, address: Address, patience: float, greet: Callable[[Line], None]) -> None:
        self.address, self._patience, self._greet = address, patience, greet
        self._place = Place(address)
        self._process = os.getpid()
        self.route = Route((address.host, address.port))
        self._pool: Any = self._make()
        self._room = threading.BoundedSemaphore(MOST)
        self._closed = False
        self._trust = object()
        self.answers = True

    def read(self, question: Callable[[Line], Answer]) -> Answer:
        """Ask something."""
        return self._try(question, writing=False)

    def write(self, change: Callable[[Line], Answer]) -> Answer:
        """Change something. Raises OutcomeUnknown if the connection is lost after it was sent."""
        return self._try(change, writing=True)

    def own(self) -> Any:
        """A connection of the caller's own, connected and looked over; the caller disconnects it."""
        with self._translated(connecting=True, writing=False):
            # Not one of the pool's: it counts those that it has made, and never down.
            connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
        return connection

    def close(self) -> None:
        """Let go of all connections. Twice is once."""
        self._closed = True
        self._pool.disconnect()

    def _make(self) -> ConnectionPool:
        address = self.address
        return ConnectionPool(
            connection_class=TlsLine if address.tls else PlainLine,
            redis_connect_func=self._begin,
            route=self.route,
            db=address.database,
            username=address.user,
            password=address.password,
            socket_timeout=self._patience,
            socket_connect_timeout=self._patience,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="queuectl",
            driver_info=None,
            max_connections=MOST,
        )

    def _try(self, work: Callable[[Line], Answer], *, writing: bool) -> Answer:
        self._refuse_use()
        with self._lent() as line:
            line.done = 0
            try:
                with self._translated(connecting=False, writing=writing):
                    answer = work(line)
            except (StoreUnavailable, StoreUnusable) as refusal:
                raise self._place.partly(refusal) if writing and line.done else refusal from refusal.__cause__
        self.answers = True
        return answer

    def _begin(self, line: Any) -> None:
        """The first words over a new connection: it may lead to another server than the last one."""
        line.tag = self.address.tag
        try:
            line.on_connect()
            self._look_over(line)
        except BaseException:
            line.disconnect()  # else the pool would lend it as it is
            raise

    def _look_over(self, line: Any) -> None:
        line.trust = self._trust
        try:
            self._greet(line)
        except BaseException:
            self._trust = object()
            raise

    def _make_sure(self, line: Any) -> None:
        """That the server has been looked over since there was trouble over any connection."""
        if line.trust is not self._trust:
            line.disconnect()
            line.connect()

    def _refuse_use(self) -> None:
        """In the child of a fork a connection would answer two processes."""
        if os.getpid() != self._process:
            raise StoreUnusable("the store was opened before a fork", "open it in the process that uses it")
        if self._closed:
            raise StoreUnavailable(f"{self.address.shown} was closed already")

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        if not self._room.acquire(timeout=self._patience):
            raise StoreUnavailable(f"{self.address.shown}: {MOST} connections of this process are all busy")
        try:
            with self._translated(connecting=True, writing=False):
                connection = self._pool.get_connection()
            try:
                with self._translated(connecting=True, writing=False):
                    self._make_sure(connection)
                yield connection
            except BaseException:
                connection.disconnect()  # its next answer may belong to this question
                raise
            finally:
                self._pool.release(connection)
        finally:
            self._room.release()

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
            return self._place.said(error)
        self.answers = False
        return self._place.unreachable(error) if connecting else self._place.lost(writing=writing)
