"""The parts that all stores on a server share: the server's clock, and the check of each new connection."""

from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime

from queuectl.clock import Clock
from queuectl.errors import StoreAbsent
from queuectl.store.driver import codec
from queuectl.store.driver.notifier import Source
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.session import Session
from queuectl.store.driver.store import Connection, DriverStore, Moment, Now
from queuectl.store.protocol import Description


class ServerStore(DriverStore[Connection, Now, Moment]):
    """A store on a server. The first verb connects.

    `clock` replaces the server's clock in tests. `clock_good_for`: seconds after which `now` reads the server's clock
    again.
    """

    def __init__(
        self,
        session: Session[Connection],
        source: Source,
        token: Callable[[], str] | None,
        clock: Clock | None,
        clock_good_for: float = GOOD_FOR,
    ) -> None:
        super().__init__(session, source, token)
        self._given = clock
        self._clock = ServerClock(self._ask_time, lambda: session.answers, 0.0 if clock else clock_good_for)

    def now(self) -> datetime:
        return self._clock.now()

    def _ask_time(self) -> int:
        return (
            self.session.read(self._server_time) if self._given is None else codec.micros(self._given.now())
        )

    @abstractmethod
    def _server_time(self, connection: Connection) -> int:
        """The time of the server's clock, in microseconds."""

    def _greet(self, connection: Connection) -> None:
        """Check a new connection: after a failover it may lead to another server than the last one."""
        try:
            self._check(connection)
        except StoreAbsent as absence:
            absence.description = self._describe(connection, thorough=False)
            raise

    @abstractmethod
    def _check(self, connection: Connection) -> None:
        """Refuse an unsuitable server, and migrate the schema."""

    def describe(self, *, thorough: bool = False) -> Description:
        ask = self.session.unhurried if thorough else self.session.read
        return ask(self._describe, thorough)

    @abstractmethod
    def _describe(self, connection: Connection, thorough: bool) -> Description:
        """The store's description, read over this connection."""
