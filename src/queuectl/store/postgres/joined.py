"""The verbs of the store inside a transaction of the caller, over the caller's own psycopg connection.

Nothing is committed, retried or prepared. Each verb runs in a savepoint, so that a refused statement leaves the
transaction of the caller usable. The row factory and the cursor class of the connection are not used.
"""

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from queuectl.domain.event import Event
from queuectl.domain.instant import EARLIEST
from queuectl.domain.job import Job
from queuectl.errors import InvalidInput
from queuectl.store.driver import codec
from queuectl.store.driver.joined import JoinedStore, savepoint
from queuectl.store.driver.session import Session
from queuectl.store.driver.store import Verbs
from queuectl.store.postgres import address, claim, events, find, output, purge, registry, swap, write
from queuectl.store.postgres.connect import Values
from queuectl.store.postgres.faults import PostgresTranslator
from queuectl.store.postgres.schema import VERSION, channel, refuse_other
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Added

Answer = TypeVar("Answer")
Rows = list[tuple[Any, ...]]
Execute = Callable[[bytes, Values, bool], tuple[Rows, int]]
"""Runs a statement with its values, in binary format or not; returns its rows, and how many it changed."""
Caller = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
Await = Callable[[Coroutine[Any, Any, tuple[Rows, int]]], tuple[Rows, int]]
"""Runs a coroutine in the event loop of an asynchronous connection, and waits for its result."""

_NOW = statements("jobs")["now"]

_checked: set[str] = set()
"""The queues whose schema version was compared. Once is enough: a program goes on while a newer one migrates."""


class JoinedLine:
    """The caller's connection, with the methods of `Line` that the verbs call."""

    def __init__(self, execute: Execute, schema: str) -> None:
        self._execute, self._schema = execute, schema

    def rows(self, statement: str, values: Values = (), *, binary: bool = False) -> Rows:
        """The rows that a statement returns."""
        return self._execute(self._named(statement), values, binary)[0]

    def value(self, statement: str, values: Values = ()) -> Any:
        """The first column of the first row, or None."""
        rows = self.rows(statement, values)
        return rows[0][0] if rows else None

    def run(self, statement: str, values: Values = ()) -> int:
        """Run a statement. Returns how many rows it changed."""
        return self._execute(self._named(statement), values, False)[1]

    def _named(self, statement: str) -> bytes:
        return statement.replace("{schema}", f'"{self._schema}"').encode()


class JoinedSession(Session[JoinedLine]):
    """Lends the caller's connection, each time in a savepoint."""

    def __init__(self, connection: Caller, execute: Execute, at: address.Address) -> None:
        super().__init__(at.shown, 0)
        self._queue = f"{at.shown} {at.schema}"
        self._caller, self._line = connection, JoinedLine(execute, at.schema)
        self._translator = PostgresTranslator(at.shown, str(at.parts.get("user", "")), at.schema)

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:  # noqa: ARG002
        """Call `work` in a savepoint. What it did is undone if it raises."""
        refuse_unusable(self._caller)
        try:
            with savepoint(self._line.run, is_open=lambda: not self._caller.closed):
                self._refuse_other_schema()
                return work(self._line, *args)
        except psycopg.Error as error:
            if self._caller.closed:
                raise self._translator.lost(writing=False) from error  # the transaction is lost with it
            raise self._translator.refused(error) from error

    def _refuse_other_schema(self) -> None:
        if self._queue not in _checked:
            refuse_other(int(self._line.value(VERSION)), self.shown)
            _checked.add(self._queue)


class PostgresJoined(JoinedStore[JoinedLine, datetime, object]):
    """A queue in PostgreSQL inside the caller's transaction. The commit of the caller notifies the workers."""

    _verbs: Any = Verbs(claim, events, find, output, purge, registry, swap, write)

    def __init__(self, connection: Caller, execute: Execute, at: address.Address) -> None:
        super().__init__(JoinedSession(connection, execute, at))
        self._channel = channel(at.schema)

    def now(self) -> datetime:
        return codec.moment(int(self.session.read(lambda line: line.value(_NOW))))

    def _now(self) -> datetime:
        """The earliest time, as of which no new job is due.

        For a due job the server would lock the counter of notifications until the caller commits, and meanwhile no
        other enqueue could notify a worker. The next claim finds out that the job is due.
        """
        return EARLIEST

    def _add(
        self, connection: JoinedLine, jobs: Sequence[Job], now: datetime, events: Sequence[Event | None]
    ) -> list[Added]:
        added = super()._add(connection, jobs, now, events)
        connection.run("SELECT pg_notify(%s, 'work')", (self._channel,))
        return added


def store(connection: object, url: str, wait: Await | None) -> PostgresJoined:
    """A store over the caller's connection. `wait` is given for an asynchronous one. Raises InvalidInput."""
    at = address.parse(url)
    if wait is None and isinstance(connection, psycopg.Connection):
        return PostgresJoined(connection, _synchronous(connection), at)
    if wait is not None and isinstance(connection, psycopg.AsyncConnection):
        return PostgresJoined(connection, _asynchronous(connection, wait), at)
    wanted = "psycopg.Connection" if wait is None else "psycopg.AsyncConnection"
    raise InvalidInput(
        f"connection: a {wanted} is needed, not {type(connection).__module__}.{type(connection).__qualname__}"
    )


def refuse_unusable(connection: Caller) -> None:
    """Raise InvalidInput for a connection without a transaction that a job can join."""
    info = connection.info
    if connection.closed:
        raise InvalidInput("connection: it is closed", "nothing was enqueued")
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise InvalidInput("connection: it is in pipeline mode", "enqueue before or after the pipeline")
    if info.transaction_status == TransactionStatus.INERROR:
        raise InvalidInput("connection: its transaction has failed", "roll it back first")
    if info.transaction_status == TransactionStatus.ACTIVE:
        raise InvalidInput("connection: a statement is in progress", "read its result first")
    if connection.autocommit and info.transaction_status == TransactionStatus.IDLE:
        raise InvalidInput(
            "connection: it is in autocommit mode and has no transaction",
            "with connection.transaction(): …, or enqueue without connection",
        )
    if info.encoding != "utf-8":
        raise InvalidInput(
            f"connection: its client_encoding is {info.encoding}", "SET client_encoding TO UTF8"
        )


def _synchronous(connection: psycopg.Connection[Any]) -> Execute:
    def execute(statement: bytes, values: Values, binary: bool) -> tuple[Rows, int]:
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement, values or None, binary=binary, prepare=False)
            return (cursor.fetchall() if cursor.description else []), cursor.rowcount

    return execute


def _asynchronous(connection: psycopg.AsyncConnection[Any], wait: Await) -> Execute:
    async def ask(statement: bytes, values: Values, binary: bool) -> tuple[Rows, int]:
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statement, values or None, binary=binary, prepare=False)
            return (await cursor.fetchall() if cursor.description else []), cursor.rowcount

    return lambda statement, values, binary: wait(ask(statement, values, binary))
