"""A connection of Python's `sqlite3`, with the methods of an apsw connection that the verbs call."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import apsw

from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    import sqlite3

Values = Sequence[Any]
LEGACY = -1
"""`sqlite3.LEGACY_TRANSACTION_CONTROL`, which Python 3.11 does not have."""


def is_library_connection(connection: object) -> "TypeGuard[sqlite3.Connection]":
    """Whether this is a connection of `sqlite3`, which the caller has then imported."""
    library = sys.modules.get("sqlite3")
    return library is not None and isinstance(connection, library.Connection)


class LibraryConnection:
    """Statements over a connection of `sqlite3`. Its errors become those of apsw, which the driver translates.

    `exec_trace`, `row_trace` and `cursor_factory` are names of apsw; here they have no effect.
    """

    def __init__(self, connection: "sqlite3.Connection") -> None:
        self._connection = connection
        self.exec_trace = self.row_trace = self.cursor_factory = None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @property
    def begins_by_itself(self) -> bool:
        """Whether `sqlite3` begins a transaction before an INSERT."""
        legacy = getattr(self._connection, "autocommit", LEGACY) == LEGACY
        return legacy and self._connection.isolation_level is not None

    @contextmanager
    def begun_as_it_would(self) -> Iterator[None]:
        """A block in a transaction, begun as `sqlite3` begins one. If the block raises, what was begun is ended."""
        begins = self.begins_by_itself and not self.in_transaction
        if begins:
            self.execute(f"BEGIN {self._connection.isolation_level}")
        try:
            yield
        except BaseException:
            if begins and self.in_transaction:
                self.execute("ROLLBACK")
            raise

    def execute(self, statement: str, values: Values = ()) -> "Answer":
        """Run a statement and read all its rows."""
        with self._translated() as cursor:
            return Answer(cursor.execute(statement, values).fetchall())

    def executemany(self, statement: str, values: Iterable[Values]) -> "Answer":
        """Run a statement for each of these values; the rows of all in order."""
        rows: list[Any] = []
        for each in values:
            rows += self.execute(statement, each)
        return Answer(rows)

    def changes(self) -> int:
        """The number of rows that the last statement changed."""
        count: int = self.execute("SELECT changes()").get
        return count

    def cursor(self) -> "LibraryConnection":
        """A cursor: no statement stays open, so it is this connection."""
        return self

    def close(self) -> None:
        """Close the cursor. The connection is the caller's."""

    @contextmanager
    def _translated(self) -> "Iterator[sqlite3.Cursor]":
        """A cursor that returns tuples and `str`, whatever the factories of the connection are."""
        library, connection = sys.modules["sqlite3"], self._connection
        factory = connection.text_factory
        try:
            connection.text_factory = str
            cursor = connection.cursor(library.Cursor)
            cursor.row_factory = None
            yield cursor
            cursor.close()
        except library.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:  # closed, or used in another thread than its own
                raise InvalidInput(f"connection: {error}") from error
            raise apsw.exception_for(code) from error
        finally:
            connection.text_factory = factory


class Answer:
    """The rows of a statement. `get` is the first one: its value if it has one column, or None if there is no row."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    @property
    def get(self) -> Any:
        """The first column of the first row, or the first row if it has several columns."""
        if not self._rows:
            return None
        first = self._rows[0]
        return first[0] if len(first) == 1 else first

    def fetchall(self) -> list[Any]:
        """All rows."""
        return self._rows

    def fetchone(self) -> Any:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)
