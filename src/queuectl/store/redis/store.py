"""The store contract over Redis. Each verb is a line here and a script elsewhere."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from queuectl.clock import Clock, random_bytes
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import StoreAbsent
from queuectl.store.driver import codec
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.protocol import Added, AttemptRef, Description, Entry, Saved, Table
from queuectl.store.redis import address, claim, description, find, output, purge, registry, schema, write
from queuectl.store.redis.caretaker import Caretaker
from queuectl.store.redis.connect import Line, RedisSession
from queuectl.store.redis.listen import Listener

PATIENCE = 10.0


class RedisStore:
    """Jobs in the keys of one name. Nothing is connected before the first verb.

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
        archives: bool = False,
    ) -> None:
        self._address = address.parse(url)
        self._fast, self._create = durability == "fast" or self._address.fast, create
        self._archives = archives
        self._tokens = AttemptIds(token or _random_token)
        self._aside = SetAside()
        self.session = RedisSession(self._address, patience, self._greet)
        self._listener = Listener(self.session, self._address.listens)
        self.caretaker = Caretaker(self.session, lambda: self.moment)
        self._given = clock
        good_for = 0.0 if clock else GOOD_FOR
        self._clock = ServerClock(self._ask_time, lambda: self.session.answers, good_for)

    @property
    def moment(self) -> str:
        """The time for a script: empty for the server's own."""
        return "" if self._given is None else str(codec.micros(self._given.now()))

    def now(self) -> datetime:
        return self._clock.now()

    def add(self, jobs: Sequence[Job]) -> list[Added]:
        said = self.session.write(lambda line: write.add(line, jobs, self.moment)) if jobs else []
        return [added for added in said if added is not None]

    def get(self, ids: Sequence[str]) -> Jobs:
        return self.session.read(lambda line: find.get(line, ids)) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        return self.session.read(lambda line: find.find(line, wanted, page))

    def counts(self, wanted: Filter) -> Counts:
        return self.session.read(lambda line: find.counts(line, wanted))

    def due_since(self) -> dict[str, datetime]:
        return self.session.read(lambda line: claim.due_since(line, self.moment))

    def claim(self, worker: str, queues: Sequence[str], limit: int, lease: timedelta) -> list[Job]:
        if limit < 1:
            return []
        self._listener.only_work()
        return self.session.write(
            lambda line: claim.claim(
                line, worker, queues, limit, lease, self.moment, self._tokens, self._aside
            )
        )

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        if not held:
            return []
        return self.session.write(lambda line: claim.renew(line, worker, held, lease, self.moment))

    def save(self, jobs: Sequence[Job]) -> list[Saved]:
        said = self.session.write(lambda line: write.save(line, jobs, self.moment)) if jobs else []
        return [write.saved(each) for each in said]

    def expired_leases(self, limit: int) -> list[Job]:
        return self.session.read(lambda line: claim.expired_leases(line, limit, self.moment))[0]

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        if not chunks and not trims:
            return set()
        return self.session.write(lambda line: output.write(line, chunks, trims))

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        return self.session.read(lambda line: output.read(line, attempt_id, after, limit))

    def has_output(self, attempt_id: str) -> bool:
        """Whether anything is kept of what an attempt printed."""
        return self.session.read(lambda line: output.exists(line, attempt_id))

    def heartbeat(self, worker: Worker) -> Instruction | None:
        entry = replace(worker, heartbeat=self.now())
        self.caretaker.start()
        return self.session.write(lambda line: registry.heartbeat(line, entry))

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        return self.session.read(lambda line: registry.pending_instruction(line, worker_id))

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        return self.session.write(lambda line: registry.instruct(line, worker_id, instruction))

    def workers(self) -> list[Worker]:
        return self.session.read(registry.workers)

    def forget(self, worker_id: str) -> None:
        self.session.write(lambda line: registry.forget(line, worker_id))

    def read_table(self, table: Table) -> dict[str, Entry]:
        return self.session.read(lambda line: registry.read_table(line, table))

    def compare_and_swap(self, table: Table, key: str, value: dict[str, Any] | None, version: int) -> bool:
        return self.session.write(lambda line: registry.compare_and_swap(line, table, key, value, version))

    def purge(self, wanted: Filter, limit: int) -> list[str]:
        return self.session.write(lambda line: purge.purge(line, wanted, limit, self.moment))

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        if expired:
            self._set_aside_lapsed()
        return self._aside.take()

    def _set_aside_lapsed(self) -> None:
        _, damaged = self.session.read(lambda line: claim.expired_leases(line, 1, self.moment))
        if damaged:
            self.session.write(lambda line: claim.set_aside(line, damaged, self._aside))

    def discard(self, numbers: Sequence[int]) -> list[int]:
        if not numbers:
            return []
        return self.session.write(lambda line: purge.discard(line, numbers, self.moment))

    def wait(self, timeout: float) -> bool:
        return self._listener.wait(timeout)

    def wake(self) -> None:
        self._listener.wake()

    def background_fault(self) -> str | None:
        return None

    def describe(self, *, thorough: bool = False) -> Description:
        return self.session.read(lambda line: self._describe(line, thorough))

    def _describe(self, line: Line, thorough: bool) -> Description:
        if thorough:
            self._listener.wait(0)  # which tries whether we may listen
        listens = self._listener.follows if thorough else self._address.listens
        listening = "messages" if listens else "polling"
        found = description.describe(line, self._address.shown, listening)
        return description.with_damage(line, found, self.moment) if thorough else found

    def migrate(self) -> None:
        self.session.read(lambda _: None)

    def close(self) -> None:
        self.caretaker.stop()
        self._listener.close()
        self.session.close()

    def _greet(self, line: Line) -> None:
        found = description.server(line)
        if found.mode == "cluster":
            self.session.route.learn(line)
            if not line.leads_to_the_queue():
                return
            found = description.server(line)  # it may have become a primary just now
        description.refuse_unfit(found, self._address.shown, self._address.user, fast=self._fast)
        begun = {"create": self._create, "archives": self._archives}
        try:
            schema.begin(line, self._address.shown, found.history, **begun)
        except StoreAbsent as absence:
            absence.description = self._describe(line, thorough=False)
            raise

    def _ask_time(self) -> int:
        if self._given is not None:
            return codec.micros(self._given.now())
        return self.session.read(_server_time)


def _server_time(line: Line) -> int:
    seconds, micros = line.call("TIME")
    return int(seconds) * 1_000_000 + int(micros)


def _random_token() -> str:
    return random_bytes(16).hex()
