"""Lends reading connections for reads, and passes all writes to the single writing connection."""

from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from queuectl.store.driver.session import PooledSession
from queuectl.store.sqlite.connect import Database
from queuectl.store.sqlite.translated import Translated
from queuectl.store.sqlite.writer import Writer

Answer = TypeVar("Answer")


class SqliteSession(PooledSession[apsw.Connection]):
    """The readers of a database file, lent to one caller at a time, and its writer.

    A read has to be short: while it lasts, SQLite cannot reset the write-ahead log.
    """

    def __init__(self, database: Database, committed: Callable[[], None]) -> None:
        super().__init__(database.path, database.patience)
        self.database = database
        self.writer = Writer(database, committed)
        self._is_left = False

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:
        """Call `work`: a change in the writer, a read over a reader.

        Refused after a fork, as locks belong to a process.
        """
        if writing:
            self.refuse_fork()
            return self.writer.run(work, *args)
        return super().perform(work, args, writing=False)

    def connect(self) -> apsw.Connection:
        """Open a reader."""
        self.database.refuse_replaced()
        return self.database.reader()

    def disconnect(self, connection: apsw.Connection) -> None:
        """Close a reader."""
        connection.close()

    def is_healthy(self, connection: apsw.Connection) -> bool:  # noqa: ARG002
        """Always true; raises StoreGone if the file was replaced."""
        self.database.refuse_replaced()
        return True

    def is_reusable(self, connection: apsw.Connection) -> bool:  # noqa: ARG002
        """Always true, because a read leaves no state."""
        return True

    def translated(self, connection: apsw.Connection, *, writing: bool) -> Translated:  # noqa: ARG002
        """A context in which errors of SQLite are translated."""
        return Translated(self.shown)

    def close(self) -> None:
        """Close the idle readers, wait for the running transaction, then close the writer.

        A reader that is lent now is closed when it is given back. The last closed connection frees the name lock.
        """
        super().close()
        self.writer.close()
        with self._lock:
            self._is_left = True
            self._leave_after_the_last()

    def _count_return(self) -> None:
        super()._count_return()
        self._leave_after_the_last()

    def _leave_after_the_last(self) -> None:
        if self._is_left and not self._lent:
            self.database.leave()
