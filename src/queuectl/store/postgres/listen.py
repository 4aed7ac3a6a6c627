"""Receives changes from PostgreSQL: by notifications if possible, otherwise by polling counters.

The statements that change jobs call the schema's function `ring`, which raises the counter of a topic and sends a
notification, at most once in 50 ms for each topic. A pooler may give the listening session to another client, so with
a pooler the counters are polled.

Notifications are not lossy: they are part of the transaction that changed something, and keepalives show a connection
that died.
"""

from collections.abc import Mapping

import psycopg

from queuectl.domain.topics import Topic, Topics
from queuectl.store.driver.notifier import Lost, Source, counted, topics_of
from queuectl.store.postgres.connect import Line, PostgresSession
from queuectl.store.postgres.schema import channel
from queuectl.store.postgres.sql import statements

SQL = statements("registry")


class Listener(Source):
    """The source of changes of one queue, with its own connection. With `listens=False` it only polls the counters."""

    lossy = False

    def __init__(self, session: PostgresSession, *, listens: bool) -> None:
        self._session, self._listens = session, listens
        self._line: Line | None = None

    def connect(self) -> None:
        self.close()
        if self._listens:
            line = self._session.open(self._listen)
            if self._line is None:
                line.close()
                self._listens = False

    def _listen(self, line: Line) -> None:
        if not line.pooled:
            line.run(f'LISTEN "{channel(line.schema)}"')
            self._line = line

    def descriptor(self) -> int | None:
        return None if self._line is None else self._line.fileno()

    def drain(self) -> Topics | None:
        line = self._line
        if line is None:
            return None
        heard = set[str]()
        try:
            line.pgconn.consume_input()
            while notice := line.pgconn.notifies():
                heard.add(notice.extra.decode())
        except psycopg.Error as error:
            self.close()
            raise Lost from error
        if line.closed:
            self.close()
            raise Lost
        return topics_of(heard)

    def counters(self) -> Mapping[Topic, int]:
        return counted(self._session.read(lambda line: line.rows(SQL["rings"])))

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None
