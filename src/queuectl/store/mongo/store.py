"""The store contract over MongoDB."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from queuectl.clock import Clock
from queuectl.domain import topics
from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import StoreAbsent
from queuectl.store.driver import codec
from queuectl.store.driver.notifier import Notifier
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.store import DriverStore
from queuectl.store.driver.verbs import Verbs
from queuectl.store.mongo import (
    address,
    claim,
    description,
    ended_counts,
    schema,
    verbs,
)
from queuectl.store.mongo.connect import FAST, SAFE, Base, MongoSession
from queuectl.store.mongo.listen import Listener
from queuectl.store.mongo.ready_index import ServerTime
from queuectl.store.protocol import ClaimRequest, Description

PATIENCE = 10.0
_SERVER_NOW: Any = {"$multiply": [{"$toLong": "$$NOW"}, 1000]}


class MongoStore(DriverStore[Base]):
    """Jobs in one database. The first verb connects.

    `clock` replaces the server's clock in tests; `token` makes attempt ids.
    """

    _verbs: Verbs[Base, datetime, ServerTime] = verbs
    session: MongoSession

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
        super().__init__(token)
        self._address = address.parse(url)
        self._fast, self._create = durability == "fast", create
        concern = FAST if self._fast else SAFE
        self.session = MongoSession(self._address, concern, patience, self._greet)
        self._listener = Listener(self.session, listens=self._address.listens)
        self._notifier = Notifier(self._listener, self.session.refuse_use)
        self._given = clock
        good_for = 0.0 if clock else GOOD_FOR
        self._clock = ServerClock(self._ask_time, lambda: self.session.answers, good_for)

    def _moment(self) -> ServerTime:
        """An expression that the server evaluates."""
        return _SERVER_NOW if self._given is None else codec.micros(self._given.now())

    def now(self) -> datetime:
        return self._clock.now()

    def _claim(self, request: ClaimRequest) -> list[Job]:
        return self.session.write(
            verbs.claim, request, self._moment(), self._ids, self._aside, self._on_contention
        )

    def _on_contention(self) -> None:
        """Wake subscribers shortly: other workers may release the queues that they have locked."""
        self._notifier.tell_soon(topics.WORK)

    def heartbeat(self, worker: Worker) -> Instruction | None:
        asked = super().heartbeat(worker)
        self.session.write(ended_counts.merge)
        return asked

    def _damaged_leases(self) -> list[Unreadable]:
        return super()._damaged_leases() + self.session.read(claim.endless)

    def _describe(self, base: Base, thorough: bool) -> Description:
        listens = self._address.listens
        found = description.describe(base, self._address.shown, fast=self._fast, listens=listens)
        return description.with_damage(base, found) if thorough else found

    def migrate(self) -> None:
        self.session.greet_again()

    def _greet(self, base: Base) -> None:
        description.refuse_unfit(description.server(base), self._address.shown)
        schema.refuse_archive(base, self._address.shown)
        try:
            schema.bring_up_to_date(base, self._address.shown, create=self._create)
        except StoreAbsent as absence:
            absence.description = self._describe(base, thorough=False)
            raise

    def _ask_time(self) -> int:
        if self._given is not None:
            return codec.micros(self._given.now())
        return self.session.read(_server_time)


def _server_time(base: Base) -> int:
    return codec.micros(base.command("hello")["localTime"].replace(tzinfo=UTC))
