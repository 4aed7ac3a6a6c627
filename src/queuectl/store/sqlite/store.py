"""Implements the store contract on one SQLite file."""

import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import apsw

from queuectl.clock import Clock
from queuectl.domain.job import Job
from queuectl.store.driver.server_clock import steady
from queuectl.store.driver.session import PATIENCE
from queuectl.store.driver.store import DriverStore, Verbs
from queuectl.store.protocol import ClaimRequest, Description
from queuectl.store.sqlite import claim, directory, events, find, output, purge, registry, swap, write
from queuectl.store.sqlite.change_poller import ChangePoller
from queuectl.store.sqlite.claim import Now
from queuectl.store.sqlite.connect import Database, Mode
from queuectl.store.sqlite.session import SqliteSession

if TYPE_CHECKING:
    from queuectl.store.sqlite.saver import Saver


class SqliteStore(DriverStore[apsw.Connection, Now, Now]):
    """A store in one database file. Safe for several threads. Do not use it in another process after a fork.

    With `durability="fast"` a commit is not synced; a thread syncs at least every `save_interval` seconds. Without
    `create`, a missing file raises StoreAbsent instead of becoming a new database.
    """

    _verbs = Verbs(claim, events, find, output, purge, registry, swap, write)
    session: SqliteSession
    _listener: ChangePoller

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Mode = "power-safe",
        save_interval: float = 1.0,
        clock: Clock | None = None,
        token: Callable[[], str] | None = None,
        patience: float = PATIENCE,
        mountinfo: str = directory.MOUNTINFO,
        create: bool = True,
    ) -> None:
        database = Database(os.path.realpath(path), durability, patience, mountinfo, create)
        session = SqliteSession(database, self._committed)
        super().__init__(session, ChangePoller(session.writer, database.log), token)
        self._clock = clock or Clock()
        self._time = threading.Lock()
        self._last_now = self._clock.now()
        self._saver = _saver(database.log, save_interval) if durability == "fast" else None
        self._idle = True

    @classmethod
    def open(cls, path: str | os.PathLike[str], **options: Any) -> "SqliteStore":
        """Open a store and check its database now, so that errors are not raised later at the first verb."""
        store = cls(path, **options)
        try:
            store.session.writer.alone(lambda _: None)
        except BaseException:
            store.close()
            raise
        return store

    def now(self) -> datetime:
        with self._time:
            self._last_now = steady(self._last_now, self._clock.now())
            return self._last_now

    def _now(self) -> Now:
        return self.now

    def _moment(self) -> Now:
        return self.now

    def _claim(self, request: ClaimRequest) -> list[Job]:
        # While claims find jobs, this extra read would double the work, so it is done only when idle.
        if self._idle and self.session.read(claim.nothing_to_claim, request, self.now):
            return []
        jobs = super()._claim(request)
        self._idle = not jobs
        return jobs

    def describe(self, *, thorough: bool = False) -> Description:
        from queuectl.store.sqlite import description  # imported here, because short commands do not need it

        found = self.session.writer.alone(lambda c: description.describe(c, self.session.database))
        return self.session.read(lambda c: description.with_damage(c, found)) if thorough else found

    def migrate(self) -> None:
        self.session.refuse_fork()
        self.session.database.migrate()

    def close(self) -> None:
        super().close()
        if self._saver:
            self._saver.close()

    def _committed(self) -> None:
        self._listener.reset_backoff()
        if self._saver:
            self._saver.committed()


def _saver(log: str, interval: float) -> "Saver":
    from queuectl.store.sqlite.saver import Saver  # imported here, because short commands do not need it

    return Saver(log, interval)
