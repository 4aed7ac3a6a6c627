"""Implements the store contract on MongoDB."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from queuectl.clock import Clock
from queuectl.domain import topics
from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.store.driver import codec
from queuectl.store.driver.server_store import ServerStore
from queuectl.store.driver.session import PATIENCE
from queuectl.store.driver.store import Verbs
from queuectl.store.mongo import (
    address,
    claim,
    description,
    events,
    find,
    output,
    purge,
    registry,
    schema,
    swap,
    write,
)
from queuectl.store.mongo.connect import FAST, SAFE, Base, MongoSession
from queuectl.store.mongo.listen import Listener
from queuectl.store.mongo.ready_index import ServerTime
from queuectl.store.protocol import ClaimRequest, Description

_SERVER_NOW: Any = {"$multiply": [{"$toLong": "$$NOW"}, 1000]}


class MongoStore(ServerStore[Base, datetime, ServerTime]):
    """A store in one MongoDB database."""

    _verbs = Verbs(claim, events, find, output, purge, registry, swap, write)
    session: MongoSession
    _listener: Listener

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
        session = MongoSession(self._address, FAST if self._fast else SAFE, patience, self._greet)
        super().__init__(session, Listener(session, listens=self._address.listens), token, clock)

    def _now(self) -> datetime:
        return self.now()

    def _moment(self) -> ServerTime:
        """An expression for the server's time, which the server evaluates."""
        return _SERVER_NOW if self._given is None else codec.micros(self._given.now())

    def _server_time(self, connection: Base) -> int:
        return codec.micros(connection.command("hello")["localTime"].replace(tzinfo=UTC))

    def _claim(self, request: ClaimRequest) -> list[Job]:
        return self.session.write(
            claim.claim, request, self._moment(), self._ids, self._aside, self._on_contention
        )

    def _on_contention(self) -> None:
        """Wake subscribers after a short time, because other workers may then have released their queue locks."""
        self._notifier.tell_soon(topics.WORK)

    def _damaged_leases(self) -> list[Unreadable]:
        return super()._damaged_leases() + self.session.read(claim.endless)

    def _describe(self, connection: Base, thorough: bool) -> Description:
        listens = self._address.listens
        found = description.describe(connection, self._address.shown, fast=self._fast, listens=listens)
        return description.with_damage(connection, found) if thorough else found

    def migrate(self) -> None:
        self.session.greet_again()

    def _check(self, connection: Base) -> None:
        shown = self._address.shown
        description.refuse_unfit(description.server(connection), shown)
        schema.refuse_archive(connection, shown)
        schema.bring_up_to_date(connection, shown, create=self._create)
