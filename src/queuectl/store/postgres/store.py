"""Implements the store contract on PostgreSQL."""

from collections.abc import Callable
from datetime import datetime

from queuectl.domain.worker import Instruction, Worker
from queuectl.store.driver.server_clock import GOOD_FOR
from queuectl.store.driver.server_store import ServerStore
from queuectl.store.driver.session import PATIENCE
from queuectl.store.driver.store import Verbs
from queuectl.store.postgres import (
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
from queuectl.store.postgres.connect import SERVER_SHARE, Line, PostgresSession
from queuectl.store.postgres.listen import Listener
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Description

_NOW = statements("jobs")["now"]


class PostgresStore(ServerStore[Line, datetime, object]):
    """A store in one schema of a PostgreSQL database. `migrations`: the folder of migrations."""

    _verbs = Verbs(claim, events, find, output, purge, registry, swap, write)
    session: PostgresSession
    _listener: Listener

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
        self._known = False
        session = PostgresSession(self._address, _options(durability, patience), patience, self._greet)
        listener = Listener(session, listens=self._address.listens)
        super().__init__(session, listener, token, None, clock_good_for)

    def _now(self) -> datetime:
        return self.now()

    def _moment(self) -> None:
        """None, because the server reads its own clock."""

    def _server_time(self, connection: Line) -> int:
        return int(connection.value(_NOW))

    def heartbeat(self, worker: Worker) -> Instruction | None:
        self._notifier.catch_up()
        return super().heartbeat(worker)

    def _describe(self, connection: Line, thorough: bool) -> Description:
        listening = "notifications" if self._address.listens and not connection.pooled else "polling"
        found = description.describe(connection, self._address.shown, listening)
        return description.with_damage(connection, found) if thorough else found

    def migrate(self) -> None:
        self._known = False
        self.session.open().close()

    def _check(self, connection: Line) -> None:
        shown, found = self._address.shown, description.server(connection)
        description.refuse_unfit(found, shown, fast=self._mode == "fast")
        if not self._known:
            schema.bring_up_to_date(connection, shown, create=self._create, scripts=self._migrations)
            self._known = True


def _options(durability: str, patience: float) -> dict[str, str]:
    """The options of a session without a pooler. They are not needed for correctness, so a pooler may refuse them."""
    milliseconds = max(500, int(1000 * patience * SERVER_SHARE))
    options = {
        "statement_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": "60000",
        "default_transaction_isolation": "read\\ committed",
        "search_path": "pg_catalog",
    }
    return options | ({"synchronous_commit": "off"} if durability == "fast" else {})
