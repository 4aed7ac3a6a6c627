"""The store contract over Redis."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime

from queuectl.clock import Clock
from queuectl.errors import StoreAbsent
from queuectl.store.driver import codec
from queuectl.store.driver.notifier import Notifier
from queuectl.store.driver.server_clock import GOOD_FOR, ServerClock
from queuectl.store.driver.store import DriverStore
from queuectl.store.driver.verbs import Verbs
from queuectl.store.protocol import Description
from queuectl.store.redis import address, description, output, schema, verbs
from queuectl.store.redis.connect import Line, RedisSession
from queuectl.store.redis.listen import Listener

PATIENCE = 10.0


class RedisStore(DriverStore[Line]):
    """Jobs in the keys of one queue. The first verb connects.

    `clock` replaces the server's clock in tests; `token` makes attempt ids.
    """

    _verbs: Verbs[Line, str, str] = verbs
    session: RedisSession

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
        super().__init__(token)
        self._address = address.parse(url)
        self._fast, self._create = durability == "fast" or self._address.fast, create
        self._archives = archives
        self.session = RedisSession(self._address, patience, self._greet)
        self._listener = Listener(self.session, listens=self._address.listens)
        self._notifier = Notifier(self._listener, self.session.refuse_use)
        self._given = clock
        good_for = 0.0 if clock else GOOD_FOR
        self._clock = ServerClock(self._ask_time, lambda: self.session.answers, good_for)

    @property
    def moment(self) -> str:
        """The time for a script; empty text for the server's clock."""
        return "" if self._given is None else str(codec.micros(self._given.now()))

    def now(self) -> datetime:
        return self._clock.now()

    def _now(self) -> str:
        return self.moment

    def _moment(self) -> str:
        return self.moment

    def has_output(self, attempt_id: str) -> bool:
        """Whether any output of an attempt is stored."""
        return self.session.read(output.exists, attempt_id)

    def _describe(self, line: Line, thorough: bool) -> Description:
        if thorough:
            with closing(self.subscribe(())) as probe:
                probe.wait(0)  # tests whether this user may subscribe
        listens = self._listener.is_subscribed if thorough else self._address.listens
        listening = "messages" if listens else "polling"
        found = description.describe(line, self._address.shown, listening)
        return description.with_index_faults(line, found) if thorough else found

    def migrate(self) -> None:
        self.session.read(lambda _: None)

    def _greet(self, line: Line) -> None:
        found = description.server(line)
        if found.mode == "cluster":
            self.session.route.learn(line)
            if not line.leads_to_the_queue():
                return
            found = description.server(line)  # the server may have become a primary just now
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
