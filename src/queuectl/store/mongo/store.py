"""The store contract over MongoDB. Each verb is a line here and one call elsewhere, or a few."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from queuectl.clock import Clock, random_bytes, random_number
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import StoreAbsent
from queuectl.store.driver import codec
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.mongo import (
    address,
    claim,
    description,
    ended_counts,
    find,
    output,
    purge,
    ready_index,
    registry,
    schema,
    write,
)
from queuectl.store.mongo.connect import FAST, SAFE, Base, MongoSession
from queuectl.store.mongo.listen import Listener
from queuectl.store.protocol import Added, AttemptRef, Description, Entry, Saved, Table

PATIENCE = 10.0
_SERVER_NOW: Any = {"$multiply": [{"$toLong": "$$NOW"}, 1000]}


class MongoStore:
    """Jobs in one database. Nothing is connected before the first verb.

    `clock` stands for the server's own, for tests; `token` makes attempt ids.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: str = "power-safe",
        patience: float = PATIENCE,
        create: bool = True,
        clock: Clock | None = None,
        token: Callable[[], str] | None = None,
    ) -> None:
        self._address = address.parse(url)
        self._fast, self._create = durability == "fast", create
        concern = FAST if self._fast else SAFE
        self.session = MongoSession(self._address, concern, patience, self._greet)
        self._listener = Listener(self.session, self._address.listens)
        self._aside = SetAside()
        self._means = claim.Means(token or _random_token, random_number, self._listener.soon, self._aside)
        self._given = clock
        good_for = 0.0 if clock else GOOD_FOR
        self._clock = ServerClock(self._ask_time, lambda: self.session.answers, good_for)

    @property
    def _moment(self) -> ready_index.ServerTime:
        """The time, as an expression that the server evaluates."""
        return _SERVER_NOW if self._given is None else codec.micros(self._given.now())

    def now(self) -> datetime:
        return self._clock.now()

    def add(self, jobs: Sequence[Job]) -> list[Added]:
        now = self.now()
        return self.session.write(lambda base: write.add(base, jobs, now)) if jobs else []

    def get(self, ids: Sequence[str]) -> Jobs:
        return self.session.read(lambda base: find.get(base, ids)) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        return self.session.read(lambda base: find.find(base, wanted, page))

    def counts(self, wanted: Filter) -> Counts:
        return self.session.read(lambda base: find.counts(base, wanted))

    def due_since(self) -> dict[str, datetime]:
        return self.session.read(lambda base: ready_index.due_since(base, self._moment))

    def claim(self, worker: str, queues: Sequence[str], limit: int, lease: timedelta) -> list[Job]:
        if limit < 1:
            return []
        self._listener.only_work()
        wish = claim.Wish(worker=worker, queues=queues, limit=limit, lease=lease)
        return self.session.write(lambda base: claim.claim(base, wish, self._moment, self._means))

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        if not held:
            return []
        return self.session.write(lambda base: claim.renew(base, worker, held, lease, self._moment))

    def save(self, jobs: Sequence[Job]) -> list[Saved]:
        now = self.now()
        return self.session.write(lambda base: write.save(base, jobs, now)) if jobs else []

    def expired_leases(self, limit: int) -> list[Job]:
        return self.session.read(lambda base: claim.expired_leases(base, limit, self._moment))[0]

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        if not chunks and not trims:
            return set()
        return self.session.write(lambda base: output.write(base, chunks, trims))

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        return self.session.read(lambda base: output.read(base, attempt_id, after, limit))

    def heartbeat(self, worker: Worker) -> Instruction | None:
        entry = replace(worker, heartbeat=self.now())
        asked = self.session.write(lambda base: registry.heartbeat(base, entry))
        self.session.write(ended_counts.merge)
        return asked

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        return self.session.read(lambda base: registry.pending_instruction(base, worker_id))

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        return self.session.write(lambda base: registry.instruct(base, worker_id, instruction))

    def workers(self) -> list[Worker]:
        return self.session.read(registry.workers)

    def forget(self, worker_id: str) -> None:
        self.session.write(lambda base: registry.forget(base, worker_id))

    def read_table(self, table: Table) -> dict[str, Entry]:
        return self.session.read(lambda base: registry.read_table(base, table))

    def compare_and_swap(self, table: Table, key: str, value: dict[str, Any] | None, version: int) -> bool:
        return self.session.write(lambda base: registry.compare_and_swap(base, table, key, value, version))

    def purge(self, wanted: Filter, limit: int) -> list[str]:
        return self.session.write(lambda base: purge.purge(base, wanted, limit))

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        if expired and (damaged := self.session.read(self._lapsed_damage)):
            self.session.write(lambda base: claim.set_aside(base, damaged, self._aside))
        return self._aside.take()

    def _lapsed_damage(self, base: Base) -> list[Unreadable]:
        return claim.expired_leases(base, 1, self._moment)[1] + claim.endless(base)

    def discard(self, numbers: Sequence[int]) -> list[int]:
        return self.session.write(lambda base: purge.discard(base, numbers)) if numbers else []

    def wait(self, timeout: float) -> bool:
        return self._listener.wait(timeout)

    def wake(self) -> None:
        self._listener.wake()

    def background_fault(self) -> str | None:
        return None

    def describe(self, *, thorough: bool = False) -> Description:
        if thorough:
            return self.session.unhurried(lambda base: description.with_damage(base, self._describe(base)))
        return self.session.read(self._describe)

    def _describe(self, base: Base) -> Description:
        return description.describe(base, self._address.shown, fast=self._fast, listens=self._address.listens)

    def migrate(self) -> None:
        self.session.greet_again()

    def close(self) -> None:
        self._listener.close()
        self.session.close()

    def _greet(self, base: Base) -> None:
        description.refuse_unfit(description.server(base), self._address.shown)
        schema.refuse_archive(base, self._address.shown)
        try:
            schema.bring_up_to_date(base, self._address.shown, create=self._create)
        except StoreAbsent as absence:
            absence.description = self._describe(base)
            raise

    def _ask_time(self) -> int:
        if self._given is not None:
            return codec.micros(self._given.now())
        return self.session.read(_server_time)


def _server_time(base: Base) -> int:
    return codec.micros(base.command("hello")["localTime"].replace(tzinfo=UTC))


def _random_token() -> str:
    return random_bytes(16).hex()
