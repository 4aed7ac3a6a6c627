"""Implements the store contract on Redis."""

from collections.abc import Callable
from contextlib import closing

from queuectl.clock import Clock
from queuectl.store.driver import codec
from queuectl.store.driver.server_store import ServerStore
from queuectl.store.driver.session import PATIENCE
from queuectl.store.driver.store import Verbs
from queuectl.store.protocol import Description
from queuectl.store.redis import (
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
from queuectl.store.redis.connect import Line, RedisSession
from queuectl.store.redis.listen import Listener


class RedisStore(ServerStore[Line, str, str]):
    """A store in the keys of one queue in Redis. `ARCHIVES`: whether the queue has an archive."""

    ARCHIVES = False
    _verbs = Verbs(claim, events, find, output, purge, registry, swap, write)
    session: RedisSession
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
        self._fast, self._create = durability == "fast" or self._address.fast, create
        session = RedisSession(self._address, patience, self._greet)
        super().__init__(session, Listener(session, listens=self._address.listens), token, clock)

    def _moment(self) -> str:
        """The time for a script. An empty text means the server's clock."""
        return "" if self._given is None else str(codec.micros(self._given.now()))

    _now = _moment

    def _server_time(self, connection: Line) -> int:
        seconds, micros = connection.call("TIME")
        return int(seconds) * 1_000_000 + int(micros)

    def _describe(self, connection: Line, thorough: bool) -> Description:
        if thorough:
            with closing(self.subscribe(())) as probe:
                probe.wait(0)  # detects whether this user may subscribe
        listens = self._listener.is_subscribed if thorough else self._address.listens
        listening = "messages" if listens else "polling"
        found = description.describe(connection, self._address.shown, listening)
        return description.with_index_faults(connection, found) if thorough else found

    def migrate(self) -> None:
        self.session.read(lambda _: None)

    def _check(self, connection: Line) -> None:
        shown, found = self._address.shown, description.server(connection)
        if found.mode == "cluster":
            self.session.route.learn(connection)
            if not connection.leads_to_the_queue():
                return
            # Read now, because the server may have just become a primary.
            found = description.server(connection)
        description.refuse_unfit(found, shown, self._address.user, fast=self._fast)
        schema.begin(connection, shown, found.history, create=self._create, archives=self.ARCHIVES)
