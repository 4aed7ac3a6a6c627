"""Connections to one database file: opened, set, and their settings read back.

The order of things at opening: a private file is there (`place`), it is ours and of our schema (`migration`),
the write-ahead log is on, the connection syncs as asked. An existing database at the current schema is not
written to.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import apsw

from queuectl.errors import StoreAbsent, StoreGone, StoreUnavailable, StoreUnusable
from queuectl.store.sqlite import directory, name_lock, schema
from queuectl.store.sqlite.faults import Translated
from queuectl.trust import quoted

Answer = TypeVar("Answer")
Mode = Literal["power-safe", "fast"]
SYNCHRONOUS: dict[Mode, int] = {"power-safe": 2, "fast": 1}
PATIENCE = 10.0
"""Seconds that one statement waits for a lock before it gives up."""

# Closing any descriptor of a file drops all POSIX locks that the process has on it. `place` makes a new file
# by hand, so nobody else in this process may have it open with SQLite at that moment.
_opening = threading.Lock()


class Database:
    """One file, and how it is to be opened. Not to be carried into another process by fork."""

    def __init__(
        self,
        path: str,
        mode: Mode,
        patience: float = PATIENCE,
        mountinfo: str = directory.MOUNTINFO,
        create: bool = True,
    ) -> None:
        self.path, self.mode, self.patience, self.mountinfo = path, mode, patience, mountinfo
        self._create = create
        self._process = os.getpid()
        self._ready = False
        self._file: tuple[int, int] | None = None
        self._name: name_lock.NameLock | None = None

    @property
    def log(self) -> str:
        """The write-ahead log beside the database."""
        return f"{self.path}-wal"

    def writer(self) -> apsw.Connection:
        """The connection for changes."""
        return self._open(self._set_writer)

    def reader(self) -> apsw.Connection:
        """A connection that cannot change anything."""
        return self._open(self._set_reader)

    def migrate(self) -> None:
        """Bring the schema to this program's version."""
        self._ready = False
        self.writer().close()

    def refuse_replaced(self) -> None:
        """What is written to a file that was deleted or moved away is lost, and what is read from it is past."""
        if self._file is None:
            return
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise self._gone() from None
        except OSError:
            return  # a directory that may no longer be looked into, say: SQLite tells what is wrong
        if self._file != (found.st_dev, found.st_ino):
            raise self._gone()

    def _gone(self) -> StoreGone:
        return StoreGone(
            f"{self.path} was deleted or replaced while it was open",
            "put it back, or restart this program",
            was_open=True,
        )

    def leave(self) -> None:
        """All connections are closed: others may come by another name."""
        taken, self._name = self._name, None
        if taken is not None:
            taken.free()

    def refuse_fork(self) -> None:
        """SQLite's locks belong to a process: used in its child, a connection corrupts the file."""
        if os.getpid() != self._process:
            raise StoreUnusable(
                f"{self.path} was opened before a fork", "open the store in the process that uses it"
            )

    def _open(self, set_up: Callable[[apsw.Connection], None]) -> apsw.Connection:
        self.refuse_fork()
        with _opening, Translated(self.path):
            if not self._ready:
                self._refuse_missing()
                directory.prepare(self.path, self.mountinfo)
                self._name = self._name or name_lock.take(self.path)
            connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.set_busy_handler(Patience(self.patience))
                # Else a statement is prepared anew for each value bound, in case a partial index suits that
                # one: measured, 17 of the 19 µs that reading a job takes.
                connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
                self._make_ready(connection)
                set_up(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _refuse_missing(self) -> None:
        """An empty database in the place of one that was moved away would take results into nothing."""
        if not self._create and not directory.is_there(self.path):
            raise StoreAbsent(f"{self.path} is not there", "put it back where it was")

    def _make_ready(self, connection: apsw.Connection) -> None:
        if self._ready:
            return
        if connection.readonly("main"):
            raise StoreUnusable(
                f"{self.path} is read-only", f"look at its owner and mode: ls -l {quoted(self.path)}"
            )
        schema.bring_up_to_date(connection, self.path)
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            raise self._gone() from None
        self._file = (found.st_dev, found.st_ino)
        self._ready = True

    def _set_writer(self, connection: apsw.Connection) -> None:
        wanted = SYNCHRONOUS[self.mode]
        connection.pragma("synchronous", wanted)
        found = connection.pragma("synchronous")
        if found != wanted:
            raise StoreUnusable(
                f"{self.path} does not sync as asked: synchronous={found} instead of {wanted}"
            )
        # Checkpoints cost two syncs: rarer than SQLite's default. A log that a burst blew up shrinks again.
        connection.wal_autocheckpoint(4000)
        connection.pragma("journal_size_limit", 64 * 1024 * 1024)
        connection.pragma("cache_size", -32_000)
        connection.pragma("temp_store", 2)

    def _set_reader(self, connection: apsw.Connection) -> None:
        connection.pragma("query_only", 1)


class Patience:
    """A busy handler: short looks at first, then longer ones, and an end."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._deadline = seconds, 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self._deadline = now + self._seconds
        if now >= self._deadline:
            return False
        time.sleep(min(0.0005 * (tries + 1), 0.01, self._deadline - now))
        return True


class Readers:
    """Reading connections, lent to one caller at a time."""

    KEPT = 4

    def __init__(self, database: Database) -> None:
        self._database, self._idle = database, list[apsw.Connection]()
        self._lock = threading.Lock()
        """Guards what follows, and the idle connections: several threads ask at once."""
        self._closed, self._leaves, self._lent = False, False, 0

    def look(self, question: Callable[[apsw.Connection], Answer]) -> Answer:
        """Ask one question on a connection of its own; keep it short, a long reader stops checkpoints."""
        self._database.refuse_fork()
        connection = self._lend()
        try:
            self._database.refuse_replaced()
            connection = connection or self._database.reader()
            with Translated(self._database.path):
                return question(connection)
        finally:
            self._give_back(connection)

    def _lend(self) -> apsw.Connection | None:
        """An idle connection. None: the caller opens one, which counts as lent from now on."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self._database.path} was closed already")
            self._lent += 1
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: apsw.Connection | None) -> None:
        with self._lock:
            is_kept = connection is not None and not self._closed and len(self._idle) < self.KEPT
            if connection is not None and is_kept:
                self._idle.append(connection)
            elif connection is not None:
                connection.close()
            self._lent -= 1
            self._leave_after_the_last()

    def close(self) -> None:
        """Close those that are idle; one that is lent closes when it comes back."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    def leave(self) -> None:
        """All other connections are closed: let go of the name, after the last reader that is lent comes back."""
        with self._lock:
            self._leaves = True
            self._leave_after_the_last()

    def _leave_after_the_last(self) -> None:
        if self._leaves and not self._lent:
            self._database.leave()
