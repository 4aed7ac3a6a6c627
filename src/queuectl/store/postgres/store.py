"""The store contract over PostgreSQL."""

from collections.abc import Callable
from datetime import datetime

from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import StoreAbsent
from queuectl.store.driver.notifier import Notifier
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.store import DriverStore
from queuectl.store.driver.verbs import Verbs
from queuectl.store.postgres import address, description, schema, verbs
from queuectl.store.postgres.connect import SERVER_SHARE, Line, PostgresSession
from queuectl.store.postgres.listen import Listener
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Description

PATIENCE = 10.0
_NOW = statements("jobs")["now"]


class PostgresStore(DriverStore[Line]):
    """Jobs in one schema of a database. The first verb connects.

    `clock_good_for`: seconds after which `now` reads the server's clock again. `migrations`: the folder of migrations.
    """

    _verbs: Verbs[Line, datetime, None] = verbs
    session: PostgresSession

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
        super().__init__(token)
        self._address = address.parse(url)
        self._mode, self._create, self._migrations = durability, create, migrations
        self._known = False
        self.session = PostgresSession(self._address, _options(durability, patience), patience, self._greet)
        self._listener = Listener(self.session, listens=self._address.listens)
        self._notifier = Notifier(self._listener, self.session.refuse_use)
        self._clock = ServerClock(self._ask_time, lambda: self.session.answers, clock_good_for)

    def now(self) -> datetime:
        return self._clock.now()

    def heartbeat(self, worker: Worker) -> Instruction | None:
        self._notifier.catch_up()
        return super().heartbeat(worker)

    def _describe(self, line: Line, thorough: bool) -> Description:
        listening = "notifications" if self._address.listens and not line.pooled else "polling"
        found = description.describe(line, self._address.shown, listening)
        return description.with_damage(line, found) if thorough else found

    def migrate(self) -> None:
        self._known = False
        self.session.open().close()

    def _greet(self, line: Line) -> None:
        """Check a new connection: after a failover it may lead to another server than the last one."""
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
    """The options of a session without a pooler. They are not needed for correctness, so a pooler may refuse them."""
    milliseconds = max(500, int(1000 * patience * SERVER_SHARE))
    options = {
        "statement_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": "60000",
        "default_transaction_isolation": "read\\ committed",
        "search_path": "pg_catalog",
    }
    return options | ({"synchronous_commit": "off"} if durability == "fast" else {})
