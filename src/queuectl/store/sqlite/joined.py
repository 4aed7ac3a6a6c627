"""The verbs of the store inside a transaction of the caller, over the caller's own connection to the queue's file.

The caller's tables must be in the queue's file: with a write-ahead log SQLite commits attached files one by one.

A connection of Python's `sqlite3` uses another SQLite library than ours. Two libraries in one process undo each
other's POSIX locks on a file, which corrupts it. So it is refused when this process has the file open through ours,
and afterwards ours does not open the file in this process (`name_lock.refuse_ours`).
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar, cast

import apsw

from queuectl.clock import Clock
from queuectl.errors import InvalidInput, StoreUnavailable, StoreUnusable
from queuectl.store.driver.joined import JoinedStore, savepoint
from queuectl.store.driver.session import Session
from queuectl.store.driver.store import Verbs
from queuectl.store.sqlite import (
    claim,
    description,
    events,
    find,
    name_lock,
    output,
    purge,
    registry,
    schema,
    swap,
    write,
)
from queuectl.store.sqlite.claim import Now
from queuectl.store.sqlite.library import LibraryConnection, is_library_connection
from queuectl.store.sqlite.translated import Translated

Answer = TypeVar("Answer")

TABLES = ("event", "job", "output", "shared", "spec", "tally", "waiting", "worker", "sqlite_sequence")
_SHADOWS = f"SELECT name FROM temp.sqlite_schema WHERE name IN ({','.join('?' * len(TABLES))})"  # noqa: S608
_WRITE = "DELETE FROM main.job WHERE 0"
_SCHEMA = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"


class JoinedSession(Session[apsw.Connection]):
    """Lends the caller's connection, each time in a savepoint."""

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        super().__init__(path, 0)
        self._connection = connection

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:  # noqa: ARG002
        """Call `work` in a savepoint. What it did is undone if it raises."""
        connection = self._connection
        within = savepoint(connection.execute, is_open=lambda: connection.in_transaction)
        with _translated(self.shown), _plain(connection), within:
            return work(connection, *args)


class SqliteJoined(JoinedStore[apsw.Connection, Now, Now]):
    """A queue in SQLite inside the caller's transaction. Workers see its commit as that of any other connection."""

    _verbs = Verbs(claim, events, find, output, purge, registry, swap, write)

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        super().__init__(JoinedSession(connection, path))
        self._clock = Clock()

    def now(self) -> datetime:
        return self._clock.now()

    def _now(self) -> Now:
        return self.now


def store(connection: object, path: str) -> SqliteJoined:
    """A store over the caller's connection to this file. Raises InvalidInput, StoreUnusable."""
    path = os.path.realpath(path)
    if isinstance(connection, apsw.Connection):
        with _translated(path), _plain(connection):
            _refuse_other_file(connection, path)
            _refuse_without(has_transaction=connection.in_transaction)
            _refuse_unusable(connection, path)
        return SqliteJoined(connection, path)
    if is_library_connection(connection):
        _refuse_race()
        own = LibraryConnection(connection)
        adapted = cast(apsw.Connection, own)
        with _translated(path):
            _refuse_other_file(adapted, path)
            _refuse_without(has_transaction=own.in_transaction or own.begins_by_itself)
            name_lock.refuse_ours(path)  # before the first statement that locks the file
            with own.begun_as_it_would():
                _refuse_unusable(adapted, path)
        return SqliteJoined(adapted, path)
    named = f"{type(connection).__module__}.{type(connection).__qualname__}"
    raise InvalidInput(f"connection: an apsw.Connection or a sqlite3.Connection is needed, not {named}")


def _refuse_race() -> None:
    version = sys.modules["sqlite3"].sqlite_version
    if not description.has_safe_log(version):
        raise StoreUnusable(
            f"connection: the SQLite {version} of Python's sqlite3 can lose commits when the log is reset",
            "use an apsw.Connection, which queuectl uses itself, or SQLite 3.51.3 or later",
        )


def _refuse_other_file(connection: apsw.Connection, path: str) -> None:
    """Raise unless the main database of the connection is the queue's file. This does not lock the file."""
    rows: Any = connection.execute("PRAGMA database_list").fetchall()
    main = next((file for _, name, file in rows if name == "main"), "")
    if not main or os.path.realpath(main) != path:
        raise InvalidInput(
            f"connection: its main database is {main or 'in memory'}, and the queue is {path}",
            "keep the tables in the file of the queue (QUEUECTL_STORE), or enqueue after the commit",
        )


def _refuse_without(*, has_transaction: bool) -> None:
    if not has_transaction:
        raise InvalidInput(
            "connection: it has no transaction", "begin one first, or enqueue without connection"
        )


def _refuse_unusable(connection: apsw.Connection, path: str) -> None:
    """Raise unless the file contains a queue of this version. Takes the write lock."""
    if shadows := [name for (name,) in connection.execute(_SHADOWS, TABLES)]:
        raise InvalidInput(
            f"connection: the temporary table {shadows[0]} hides a table of the queue", "rename it"
        )
    try:
        # The write lock before the first read: a transaction that has read cannot write after another one has written.
        connection.execute(_WRITE)
        found: Any = connection.execute(_SCHEMA).fetchall()
    except apsw.SQLError:
        found = None
    if found != [(schema.APPLICATION, schema.SCHEMA)]:
        raise StoreUnusable(
            f"{path} contains no queue of this version of queuectl",
            "run this once before: queuectl doctor --create",
        )


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """A block in which errors of SQLite are translated. How long a lock is waited for is the caller's setting."""
    try:
        with Translated(path):
            yield
    except StoreUnavailable as error:
        if isinstance(error.__cause__, apsw.BusyError):
            error.hint = (
                "set a busy timeout on the connection, and begin its transaction with BEGIN IMMEDIATE"
            )
        raise


@contextmanager
def _plain(connection: apsw.Connection) -> Iterator[None]:
    """Without the hooks of the caller, which may change rows or refuse statements."""
    before = connection.exec_trace, connection.row_trace, connection.cursor_factory
    connection.exec_trace, connection.row_trace, connection.cursor_factory = None, None, apsw.Cursor
    try:
        yield
    finally:
        connection.exec_trace, connection.row_trace, connection.cursor_factory = before
