"""The SQLite driver: the verbs of the contract, each handed to the writer or to a reader."""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from queuectl.clock import Clock, random_bytes
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.store.driver.server_clock import steady
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.protocol import Added, AttemptRef, Description, Entry, Saved, Table
from queuectl.store.sqlite import claim, description, directory, find, output, purge, registry, write
from queuectl.store.sqlite.change_poller import ChangePoller
from queuectl.store.sqlite.claim import Wish
from queuectl.store.sqlite.connect import PATIENCE, Database, Mode
from queuectl.store.sqlite.saver import Saver
from queuectl.store.sqlite.session import SqliteSession


class SqliteStore:
    """One database file. Safe for several threads; not to be carried into another process by fork.

    With `durability="fast"` a commit is not synced; a thread does it at least every `save_interval` seconds. Without
    `create`, a file that is missing is an absence and not a new database.
    """

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
        self._clock = clock or Clock()
        self._token = token or _random_token
        self._time = threading.Lock()
        self._last_now = self._clock.now()
        database = Database(os.path.realpath(path), durability, patience, mountinfo, create)
        self.session = SqliteSession(database, self._committed)
        self._saver = Saver(database.log, save_interval) if durability == "fast" else None
        self._poller = ChangePoller(self.session.writer, database.log)
        self._idle = True
        self._aside = SetAside()

    @classmethod
    def open(cls, path: str | os.PathLike[str], **options: Any) -> "SqliteStore":
        """A store whose database was looked at: what is wrong is raised here and not at the first verb."""
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

    def add(self, jobs: Sequence[Job]) -> list[Added]:
        return self.session.write(lambda c: write.add(c, jobs, self.now())) if jobs else []

    def get(self, ids: Sequence[str]) -> Jobs:
        return self.session.read(lambda c: find.get(c, ids)) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        return self.session.read(lambda c: find.find(c, wanted, page))

    def counts(self, wanted: Filter) -> Counts:
        return self.session.read(lambda c: find.counts(c, wanted))

    def due_since(self) -> dict[str, datetime]:
        return self.session.read(lambda c: claim.due_since(c, self.now()))

    def claim(self, worker: str, queues: Sequence[str], limit: int, lease: timedelta) -> list[Job]:
        wish = Wish(worker=worker, queues=queues, limit=limit, lease=lease)
        self._poller.begin()
        # While claims find something, looking first would only double the work.
        if limit < 1 or (self._idle and self._nothing_to_claim(wish)):
            return []
        jobs = self.session.write(lambda c: claim.claim(c, wish, self.now(), self._token, self._aside))
        self._idle = not jobs
        return jobs

    def _nothing_to_claim(self, wish: Wish) -> bool:
        return self.session.read(lambda c: claim.nothing_to_claim(c, wish, self.now()))

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        return self.session.write(lambda c: claim.renew(c, worker, held, lease, self.now())) if held else []

    def save(self, jobs: Sequence[Job]) -> list[Saved]:
        return self.session.write(lambda c: write.save(c, jobs, self.now())) if jobs else []

    def expired_leases(self, limit: int) -> list[Job]:
        return self.session.read(lambda c: claim.expired_leases(c, limit, self.now()))[0]

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        if not chunks and not trims:
            return set()
        return self.session.write(lambda c: output.write(c, chunks, trims))

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        return self.session.read(lambda c: output.read(c, attempt_id, after, limit))

    def heartbeat(self, worker: Worker) -> Instruction | None:
        return self.session.write(lambda c: registry.heartbeat(c, worker, self.now()))

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        return self.session.read(lambda c: registry.pending_instruction(c, worker_id))

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        return self.session.write(lambda c: registry.instruct(c, worker_id, instruction))

    def workers(self) -> list[Worker]:
        return self.session.read(registry.workers)

    def forget(self, worker_id: str) -> None:
        self.session.write(lambda c: registry.forget(c, worker_id))

    def read_table(self, table: Table) -> dict[str, Entry]:
        return self.session.read(lambda c: registry.read_table(c, table))

    def compare_and_swap(self, table: Table, key: str, value: dict[str, Any] | None, version: int) -> bool:
        return self.session.write(lambda c: registry.compare_and_swap(c, table, key, value, version))

    def purge(self, wanted: Filter, limit: int) -> list[str]:
        return self.session.write(lambda c: purge.purge(c, wanted, limit))

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        if expired:
            self._set_aside_lapsed()
        return self._aside.take()

    def _set_aside_lapsed(self) -> None:
        _, damaged = self.session.read(lambda c: claim.expired_leases(c, 1, self.now()))
        if damaged:
            self.session.write(lambda c: claim.set_aside(c, damaged, self._aside))

    def discard(self, numbers: Sequence[int]) -> list[int]:
        return self.session.write(lambda c: purge.discard(c, numbers)) if numbers else []

    def wait(self, timeout: float) -> bool:
        return self._poller.wait(timeout)

    def wake(self) -> None:
        self._poller.wake()

    def background_fault(self) -> str | None:
        return None

    def describe(self, *, thorough: bool = False) -> Description:
        found = self.session.writer.alone(lambda c: description.describe(c, self.session.database))
        return self.session.read(lambda c: description.with_damage(c, found)) if thorough else found

    def migrate(self) -> None:
        self.session.refuse_fork()
        self.session.database.migrate()

    def close(self) -> None:
        self.session.close()
        if self._saver:
            self._saver.close()

    def _committed(self) -> None:
        self._poller.quicken()
        if self._saver:
            self._saver.committed()


def _random_token() -> str:
    return random_bytes(16).hex()
