"""Opens connections to one database file, sets them up, and checks their settings.

The order at opening: create a private file (`directory`), check its owner and schema (`schema`), turn the write-ahead
log on, and check that the connection syncs as requested. An existing database at the current schema is not written
to.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Literal

import apsw

from queuectl.errors import StoreAbsent, StoreGone, StoreUnusable
from queuectl.store.driver.session import PATIENCE
from queuectl.store.sqlite import directory, name_lock, schema
from queuectl.store.sqlite.translated import Translated
from queuectl.trust import quoted

Mode = Literal["power-safe", "fast"]
SYNCHRONOUS: dict[Mode, int] = {"power-safe": 2, "fast": 1}

# Closing any descriptor of a file drops all POSIX locks that the process has on it. `directory` opens a new file
# itself, so no other thread of this process may have it open with SQLite at that time.
_opening = threading.Lock()


class Database:
    """A database file, and the way to open it. Do not use it in another process after a fork."""

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
        self._ready = False
        self._file: tuple[int, int] | None = None
        self._name: name_lock.NameLock | None = None

    @property
    def log(self) -> str:
        """The path of the write-ahead log beside the database."""
        return f"{self.path}-wal"

    def writer(self) -> apsw.Connection:
        """Open the connection for changes."""
        return self._open(self._set_writer)

    def reader(self) -> apsw.Connection:
        """Open a connection that cannot change anything."""
        return self._open(self._set_reader)

    def migrate(self) -> None:
        """Migrate the schema to this program's version."""
        self._ready = False
        self.writer().close()

    def refuse_replaced(self) -> None:
        """Raise if the file was deleted or moved away: writes to it would be lost, and reads would be outdated."""
        if self._file is None:
            return
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise self.gone() from None
        except OSError:
            return  # for example without permission for the directory; SQLite reports the fault
        if self._file != (found.st_dev, found.st_ino):
            raise self.gone()

    def gone(self) -> StoreGone:
        """The error for a file that was deleted or replaced."""
        return StoreGone(
            f"{self.path} was deleted or replaced while it was open",
            "put it back, or restart this program",
            was_open=True,
        )

    def leave(self) -> None:
        """Called after all connections are closed: release the name lock, so that another name may be used."""
        taken, self._name = self._name, None
        if taken is not None:
            taken.free()

    def _open(self, set_up: Callable[[apsw.Connection], None]) -> apsw.Connection:
        with _opening, Translated(self.path):
            if not self._ready:
                self._refuse_missing()
                directory.prepare(self.path, self.mountinfo)
                self._name = self._name or name_lock.take(self.path)
            connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.set_busy_handler(Patience(self.patience))
                # Without this setting SQLite prepares a statement again for each bound value, in case a partial index
                # fits the
                # value: measured, 17 of the 19 µs that reading a job takes.
                connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
                self._make_ready(connection)
                set_up(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _refuse_missing(self) -> None:
        """Raise if the file is missing: an empty database in its place would lose the results of running jobs."""
        if not self._create and not directory.is_there(self.path):
            raise StoreAbsent(f"{self.path} is not there", "put it back where it was")

    def _make_ready(self, connection: apsw.Connection) -> None:
        if self._ready:
            return
        if connection.readonly("main"):
            raise StoreUnusable(
                f"{self.path} is read-only", f"check its owner and mode: ls -l {quoted(self.path)}"
            )
        schema.bring_up_to_date(connection, self.path)
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            raise self.gone() from None
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
        # Checkpoints cost two syncs, so they are rarer than SQLite's default. A log that a burst made large shrinks
        # again.
        connection.wal_autocheckpoint(4000)
        connection.pragma("journal_size_limit", 64 * 1024 * 1024)
        connection.pragma("cache_size", -32_000)
        connection.pragma("temp_store", 2)

    def _set_reader(self, connection: apsw.Connection) -> None:
        connection.pragma("query_only", 1)


class Patience:
    """A busy handler that waits for short and then for longer times, up to a time limit."""

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
