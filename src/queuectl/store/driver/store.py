"""Implements every verb of the store contract once for all drivers, with a session and the modules of one driver.

A driver adds a class with a constructor, six modules with the functions that `verbs.py` names, and the parts that no
other store needs. A new verb is added to the contract, here, to `verbs.py`, to the memory store and to each driver.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec.structs import replace

from queuectl.clock import random_bytes
from queuectl.domain import topics
from queuectl.domain.event import Actor, Event
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.topics import Topic
from queuectl.domain.worker import Instruction, Worker
from queuectl.store.driver import verdict
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.notifier import Notifier, Source
from queuectl.store.driver.session import Session
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.protocol import (
    Added,
    AttemptRef,
    ClaimRequest,
    Description,
    Entry,
    EventPage,
    Saved,
    Subscription,
    Swap,
    Table,
    Upcoming,
)

if TYPE_CHECKING:
    from queuectl.store.driver.verbs import Claims, Events, Finds, Outputs, Purges, Registries, Swaps, Writes

Connection = TypeVar("Connection")
Now = TypeVar("Now")
Moment = TypeVar("Moment")


class Verbs(Generic[Connection, Now, Moment]):
    """The modules of one driver."""

    def __init__(
        self,
        claim: "Claims[Connection, Moment]",
        events: "Events[Connection]",
        find: "Finds[Connection]",
        output: "Outputs[Connection]",
        purge: "Purges[Connection, Moment]",
        registry: "Registries[Connection]",
        swap: "Swaps[Connection, Now]",
        write: "Writes[Connection, Now]",
    ) -> None:
        self.claim, self.events, self.find, self.output = claim, events, find, output
        self.purge, self.registry, self.swap, self.write = purge, registry, swap, write


class DriverStore(ABC, Generic[Connection, Now, Moment]):
    """The verbs of the contract. A verb with nothing to do does not call the store. A driver sets `_verbs`."""

    _verbs: Verbs[Connection, Now, Moment]

    def __init__(self, session: Session[Connection], source: Source, token: Callable[[], str] | None) -> None:
        self.session, self._listener = session, source
        self._notifier = Notifier(source, session.refuse_use)
        self._ids = AttemptIds(token or _random_token)
        self._aside = SetAside()

    @abstractmethod
    def now(self) -> datetime: ...

    @abstractmethod
    def _now(self) -> Now:
        """The time for `add` and `save`, in the form that this driver expects."""

    @abstractmethod
    def _moment(self) -> Moment:
        """The time for the other functions, in the form that this driver expects."""

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        if not jobs:
            return []
        added = self.session.write(self._verbs.write.add, jobs, self._now(), events)
        self._notifier.tell_of(jobs, self.now)
        return added

    def get(self, ids: Sequence[str]) -> Jobs:
        return self.session.read(self._verbs.find.get, ids) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        return self.session.read(self._verbs.find.find, wanted, page)

    def counts(self, wanted: Filter) -> Counts:
        return self.session.read(self._verbs.find.counts, wanted)

    def due_since(self) -> dict[str, datetime]:
        return self.session.read(self._verbs.claim.due_since, self._moment())

    def last_number(self) -> int:
        return self.session.read(self._verbs.find.last_number)

    def claim(
        self, worker: str, queues: Sequence[str], limit: int, lease: timedelta, *, tell: bool = False
    ) -> list[Job]:
        if limit < 1:
            return []
        claimed = self._claim(ClaimRequest(worker, queues, limit, lease, tell))
        self._notifier.tell(topics.CHANGES)
        return claimed

    def _claim(self, request: ClaimRequest) -> list[Job]:
        return self.session.write(self._verbs.claim.claim, request, self._moment(), self._ids, self._aside)

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        if not held:
            return []
        return self.session.write(self._verbs.claim.renew, worker, held, lease, self._moment())

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        if not jobs:
            return []
        results = self.session.write(self._verbs.write.save, jobs, self._now(), events)
        self._notifier.tell_of(jobs, self.now)
        return list(map(verdict.saved, jobs, results))

    def expired_leases(self, limit: int) -> list[Job]:
        return self.session.read(self._verbs.claim.expired_leases, limit, self._moment())[0]

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        if not chunks and not trims:
            return set()
        refused = self.session.write(self._verbs.output.write, chunks, trims)
        self._notifier.tell(topics.OUTPUT)
        return refused

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        return self.session.read(self._verbs.output.read, attempt_id, after, limit)

    def heartbeat(self, worker: Worker) -> Instruction | None:
        return self.session.write(self._verbs.registry.heartbeat, replace(worker, heartbeat=self.now()))

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        return self.session.read(self._verbs.registry.pending_instruction, worker_id)

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        known = self.session.write(self._verbs.registry.instruct, worker_id, instruction)
        self._notifier.tell(topics.WORK)
        return known

    def workers(self) -> list[Worker]:
        return self.session.read(self._verbs.registry.workers)

    def forget(self, worker_id: str) -> None:
        self.session.write(self._verbs.registry.forget, worker_id)
        self._notifier.tell(topics.ENDS)

    def read_table(self, table: Table, keys: Sequence[str] | None = None) -> dict[str, Entry]:
        return (
            {}
            if keys is not None and not keys
            else self.session.read(self._verbs.registry.read_table, table, keys)
        )

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        changes = [swap for swap in swaps if not swap.removes_nothing]
        made = iter(self._swap(changes) if changes else ())
        self._notifier.tell(topics.WORK)
        self._notifier.tell_of([job for swap in changes for job in swap.adding], self.now)
        return [self._is_absent(swap) if swap.removes_nothing else next(made) for swap in swaps]

    def _is_absent(self, swap: Swap) -> bool:
        return not self.read_table(swap.table, [swap.key])

    def _swap(self, swaps: Sequence[Swap]) -> list[bool]:
        return self.session.write(self._verbs.swap.swap, swaps, self._now())

    def upcoming(self, limit: int) -> list[Upcoming]:
        return self.session.read(self._verbs.registry.upcoming, limit)

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        if limit < 1:
            return []
        gone = self.session.write(self._verbs.purge.purge, wanted, limit, self._moment(), tell)
        self._notifier.tell(topics.CHANGES)
        return gone

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        if expired and (damaged := self._damaged_leases()):
            self.session.write(self._verbs.claim.set_aside, damaged, self._aside)
        return self._aside.take()

    def _damaged_leases(self) -> list[Unreadable]:
        """The claims that cannot be decoded and whose lease has expired."""
        return self.session.read(self._verbs.claim.expired_leases, 1, self._moment())[1]

    def discard(self, numbers: Sequence[int]) -> list[int]:
        return self.session.write(self._verbs.purge.discard, numbers, self._moment()) if numbers else []

    def read_events(self, after: str | None, limit: int) -> EventPage:
        return self.session.read(self._verbs.events.read, after, limit)

    def event_cursor(self, at: datetime | None) -> str:
        return self.session.read(self._verbs.events.cursor, at)

    def trim_events(self, before: datetime, keep: int, limit: int) -> int:
        return self.session.write(self._verbs.events.trim, before, keep, limit) if limit > 0 else 0

    def subscribe(self, wanted: Iterable[Topic]) -> Subscription:
        return self._notifier.subscribe(wanted)

    def background_fault(self) -> str | None:
        return None

    @abstractmethod
    def describe(self, *, thorough: bool = False) -> Description: ...

    @abstractmethod
    def migrate(self) -> None: ...

    def close(self) -> None:
        self.session.close()
        self._notifier.close()


def _random_token() -> str:
    return random_bytes(16).hex()
