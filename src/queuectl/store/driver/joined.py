"""The verbs of a store inside a transaction of the caller, over the caller's own connection.

Only the verbs that an enqueue needs are here. Nothing is committed, retried or notified before the caller commits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Generic

from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Found, Jobs, Page
from queuectl.store.driver import verdict
from queuectl.store.driver.session import Session
from queuectl.store.driver.store import Connection, Moment, Now, Verbs
from queuectl.store.protocol import Added, Entry, Saved, Table


@contextmanager
def savepoint(run: Callable[[str], object], *, is_open: Callable[[], bool]) -> Iterator[None]:
    """A block in a savepoint of the caller's transaction: if the block raises, its changes are undone.

    `is_open`: whether the transaction still exists. After some errors the database has ended the whole transaction.
    """
    run("SAVEPOINT queuectl_call")
    try:
        yield
    except BaseException:
        if is_open():
            run("ROLLBACK TO SAVEPOINT queuectl_call")
            run("RELEASE SAVEPOINT queuectl_call")
        raise
    run("RELEASE SAVEPOINT queuectl_call")


class JoinedStore(ABC, Generic[Connection, Now, Moment]):
    """The verbs over a session that lends the caller's connection. A driver sets `_verbs`."""

    _verbs: Verbs[Connection, Now, Moment]

    def __init__(self, session: Session[Connection]) -> None:
        self.session = session

    @abstractmethod
    def now(self) -> datetime:
        """The time of the store's clock."""

    @abstractmethod
    def _now(self) -> Now:
        """The time in the form in which `add` and `save` of this driver expect it."""

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        return self.session.write(self._add, jobs, self._now(), events) if jobs else []

    def _add(
        self, connection: Connection, jobs: Sequence[Job], now: Now, events: Sequence[Event | None]
    ) -> list[Added]:
        return self._verbs.write.add(connection, jobs, now, events)

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        if not jobs:
            return []
        results = self.session.write(self._verbs.write.save, jobs, self._now(), events)
        return list(map(verdict.saved, jobs, results))

    def get(self, ids: Sequence[str]) -> Jobs:
        return self.session.read(self._verbs.find.get, ids) if ids else Jobs()

    def find(self, wanted: Filter, page: Page) -> Found:
        return self.session.read(self._verbs.find.find, wanted, page)

    def read_table(self, table: Table) -> dict[str, Entry]:
        return self.session.read(self._verbs.registry.read_table, table, None)

    def close(self) -> None:
        """Does nothing, because the connection belongs to the caller."""
