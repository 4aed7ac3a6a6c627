"""The store contract over PostgreSQL. Each verb is a line here and one statement elsewhere, or a few."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from queuectl.clock import random_bytes
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import StoreAbsent
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.postgres import address, claim, description, find, output, purge, registry, schema, write
from queuectl.store.postgres.connect import SERVER_SHARE, Line, PostgresSession
from queuectl.store.postgres.listen import Listener
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Added, AttemptRef, Description, Entry, Saved, Table

PATIENCE = 10.0
_NOW = statements("jobs")["now"]


class PostgresStore:
    """Jobs in one schema of a database. Nothing is connected before the first verb.

    `clock_good_for`: seconds for which the server's clock is carried on by ours. `migrations`: their folder.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: str = "power-safe",
        patience: float = PATIENCE,
        create: bool = True,
        token: Callable[[], str] | None = None,
        clock_good_for: float = GOOD_FOR,
        migrations: str = schema.SCRIPTS,
    ) -> None:
        self._address = address.parse(url)
        self._mode, self._create, self._migrations = durability, create, migrations
        self._tokens = AttemptIds(token or _random_token)
        self._aside = SetAside()
        self._known = False
        self.session = PostgresSession(self._address, _options(durability, patience), patience, self._greet)
        self._listener = Listener(self.session, self._address.listens)
        self._clock = ServerClock(self._ask_time, lambda: self.session.answers, clock_good_for)

    def now(self) -> datetime:
        return self._clock.now()

    def add(self, jobs: Sequence[Job]) -> list[Added]:
        now = self.now()
        return self.session.write(lambda c: write.add(c, jobs, now)) if jobs else []

    def get(self, ids: Sequence[str]) -> Jobs:
        return self.session.read(lambda c: find.get(c, ids)) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        return self.session.read(lambda c: find.find(c, wanted, page))

    def counts(self, wanted: Filter) -> Counts:
        return self.session.read(lambda c: find.counts(c, wanted))

    def due_since(self) -> dict[str, datetime]:
        return self.session.read(claim.due_since)

    def claim(self, worker: str, queues: Sequence[str], limit: int, lease: timedelta) -> list[Job]:
        if limit < 1:
            return []
        self._listener.only_work()
        return self.session.write(
            lambda c: claim.claim(c, worker, queues, limit, lease, self._tokens, self._aside)
        )

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        return self.session.write(lambda c: claim.renew(c, worker, held, lease)) if held else []

    def save(self, jobs: Sequence[Job]) -> list[Saved]:
        now = self.now()
        return self.session.write(lambda c: write.save(c, jobs, now)) if jobs else []

    def expired_leases(self, limit: int) -> list[Job]:
        return self.session.read(lambda c: claim.expired_leases(c, limit))[0]

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        if not chunks and not trims:
            return set()
        return self.session.write(lambda c: output.write(c, chunks, trims))

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        return self.session.read(lambda c: output.read(c, attempt_id, after, limit))

    def heartbeat(self, worker: Worker) -> Instruction | None:
        entry = replace(worker, heartbeat=self.now())
        self._listener.take_in()
        return self.session.write(lambda c: registry.heartbeat(c, entry))

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
        _, damaged = self.session.read(lambda c: claim.expired_leases(c, 1))
        if damaged:
            self.session.write(lambda c: claim.set_aside(c, damaged, self._aside))

    def discard(self, numbers: Sequence[int]) -> list[int]:
        return self.session.write(lambda c: purge.discard(c, numbers)) if numbers else []

    def wait(self, timeout: float) -> bool:
        return self._listener.wait(timeout)

    def wake(self) -> None:
        self._listener.wake()

    def background_fault(self) -> str | None:
        return None

    def describe(self, *, thorough: bool = False) -> Description:
        return self.session.read(lambda c: self._describe(c, thorough))

    def _describe(self, line: Line, thorough: bool) -> Description:
        listening = "notifications" if self._address.listens and not line.pooled else "polling"
        found = description.describe(line, self._address.shown, listening)
        return description.with_damage(line, found) if thorough else found

    def migrate(self) -> None:
        self._known = False
        self.session.open().close()

    def close(self) -> None:
        self._listener.close()
        self.session.close()

    def _greet(self, line: Line) -> None:
        """Look a new connection over: after a failover it may lead to another server than the last one."""
        found = description.server(line)
        description.refuse_unfit(found, self._address.shown, fast=self._mode == "fast")
        if not self._known:
            self._bring_up_to_date(line)
            self._known = True

    def _bring_up_to_date(self, line: Line) -> None:
        shown = self._address.shown
        try:
            schema.bring_up_to_date(line, shown, create=self._create, scripts=self._migrations)
        except StoreAbsent as absence:
            absence.description = self._describe(line, thorough=False)
            raise

    def _ask_time(self) -> int:
        return int(self.session.read(lambda c: c.value(_NOW)))


def _options(durability: str, patience: float) -> dict[str, str]:
    """What a session of our own is asked to be; without it (a pooler) nothing but comfort is lost."""
    milliseconds = max(500, int(1000 * patience * SERVER_SHARE))
    options = {
        "statement_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": "60000",
        "default_transaction_isolation": "read\\ committed",
        "search_path": "pg_catalog",
    }
    return options | ({"synchronous_commit": "off"} if durability == "fast" else {})


def _random_token() -> str:
    return random_bytes(16).hex()
