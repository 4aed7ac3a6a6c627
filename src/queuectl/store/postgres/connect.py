"""Connections to one database, each lent to one caller at a time. No state is kept in a database session.

Each statement is a transaction of its own, so that a pooler may run each one in another session. So there are no
prepared statements, no `SET`, and no locks beyond the transaction. Session settings (time limits of the server,
`durability=fast`) are requested in the startup message, unless a pooler refuses them.

psycopg's own pool is not used. It connects in separate threads, and a caller gets only a timeout instead of the reason.
An error must name a wrong password, for example, and a short command must not start threads.
"""

import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.errors import InsufficientPrivilege

from queuectl.errors import QueuectlError, StoreUnavailable
from queuectl.store.driver.session import PooledSession
from queuectl.store.postgres.address import Address
from queuectl.store.postgres.faults import AGAIN, FAREWELL, ConnectionLost, PostgresTranslator, Silence

Answer = TypeVar("Answer")
Values = Sequence[Any] | Mapping[str, Any]
TRIES = 5
CANCEL_SECONDS = 1.0
LONGEST_PATIENCE = 600.0
SERVER_SHARE = 0.8
"""The server's time limit for a statement, as a part of the patience. It ends first, so that the outcome is known."""
_OWNER = """SELECT rolname, rolsuper, current_user FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
    WHERE nspname = %s"""


class Line(psycopg.Connection[tuple[Any, ...]]):
    """A connection with a time limit for each answer. `schema` replaces `{schema}` in its statements."""

    schema = ""
    patience = 10.0

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:  # noqa: ARG002
        """Wait for an answer, as psycopg's method does, but with a time limit, and end at once on Ctrl+C.

        On Ctrl+C psycopg asks the server to cancel the statement, and waits up to ten seconds for the end of that. A
        person who presses Ctrl+C because the server is silent would wait for nothing. `statement_timeout` ends the
        statement in the server.
        """
        interval = min(interval, self.patience)
        try:
            return waiting.wait(_limited(gen, self.patience), self.pgconn.socket, interval=interval)
        except (KeyboardInterrupt, SystemExit):
            self.pgconn.finish()
            raise

    def rows(self, statement: str, values: Values = (), *, binary: bool = False) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        return self.execute(self.named(statement), values or None, binary=binary).fetchall()

    def value(self, statement: str, values: Values = ()) -> Any:
        """Run a statement and return the first column of its first row, or None."""
        row = self.execute(self.named(statement), values or None).fetchone()
        return row[0] if row else None

    def run(self, statement: str, values: Values = ()) -> int:
        """Run a statement. Returns the number of changed rows."""
        return self.execute(self.named(statement), values or None).rowcount

    def named(self, statement: str) -> bytes:
        """The statement with `{schema}` replaced."""
        return statement.replace("{schema}", f'"{self.schema}"').encode()

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """A transaction with a time limit of ten minutes."""
        patience, self.patience = self.patience, LONGEST_PATIENCE
        try:
            with self.transaction():
                self.execute("SET LOCAL statement_timeout = 0")
                yield
        finally:
            self.patience = patience

    @property
    def pooled(self) -> bool:
        """Whether there is a pooler: then the server process differs from the one at the start of the connection."""
        return bool(self.value("SELECT pg_backend_pid()") != self.info.backend_pid)

    @property
    def stale(self) -> bool:
        """Whether the server has sent an unrequested message, which is usually the end of the connection."""
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))


class PostgresSession(PooledSession[Line]):
    """Connections to one database. `greet` checks each new one: after a failover it may lead to another server."""

    def __init__(
        self, address: Address, options: Mapping[str, str], patience: float, greet: Callable[[Line], None]
    ) -> None:
        super().__init__(address.shown, patience)
        self.address, self._greet = address, greet
        self._options = " ".join(f"-c {name}={value}" for name, value in options.items())
        user = str(address.parts.get("user", ""))
        self._translator = PostgresTranslator(address.shown, user, address.schema)

    def perform(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:
        """Call `work`. A read is repeated once after a lost connection, because to read twice does no harm."""
        try:
            return self._try(work, args, writing=writing)
        except ConnectionLost:
            if writing:
                raise
            return self._try(work, args, writing=False)

    def _try(self, work: Callable[..., Answer], args: tuple[Any, ...], *, writing: bool) -> Answer:
        """Call `work`, and repeat it if the server has rolled the transaction back, for example after a deadlock."""
        for left in reversed(range(TRIES)):
            try:
                return super().perform(work, args, writing=writing)
            except StoreUnavailable as fault:
                if not left or not isinstance(fault.__cause__, AGAIN):
                    raise
        raise AssertionError("unreachable")

    def open(self, prepare: Callable[[Line], None] | None = None) -> Line:
        """A new connection for the caller, checked and prepared. The caller closes it."""
        self.refuse_fork()
        self.refuse_closed()
        try:
            line = self._connect()
        except psycopg.Error as error:
            self.answers = False
            raise self._translator.unreachable(error) from error
        try:
            with self.translated(line, writing=False):
                self._greet(line)
                if prepare is not None:
                    prepare(line)
        except BaseException:
            line.close()
            raise
        self.answers = True
        return line

    def connect(self) -> Line:
        """Open a connection that can be lent."""
        return self.open()

    def disconnect(self, connection: Line) -> None:
        """Close a connection."""
        connection.close()

    def is_healthy(self, connection: Line) -> bool:
        """Whether the server has sent nothing, such as the end of the session, while the connection was idle."""
        return not connection.stale

    def is_reusable(self, connection: Line) -> bool:
        """Whether the connection has no open statement and no open transaction."""
        status = psycopg.pq.TransactionStatus
        return not connection.closed and connection.info.transaction_status == status.IDLE

    @contextmanager
    def translated(self, connection: Line, *, writing: bool) -> Iterator[None]:
        """Translate errors of psycopg. A statement without an answer is cancelled."""
        try:
            yield
        except Silence as silence:
            # Without the cancel the statement continues in the server, and so does each repetition: for example a
            # commit that waits for a standby.
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_SECONDS)
            connection.close()
            self.answers = False
            raise self._translator.lost(writing=writing, silent=True) from silence
        except psycopg.Error as error:
            if connection.closed or isinstance(error, FAREWELL):
                connection.close()
                raise self._translator.lost(writing=writing) from error
            raise self._fault(connection, error) from error

    def _fault(self, line: Line, error: psycopg.Error) -> QueuectlError:
        """Translate a refusal. If the user lacks a right, the hint names the owner, who can grant it."""
        if isinstance(error, InsufficientPrivilege):
            with suppress(psycopg.Error):  # if this query fails, the hint names no owner
                for owner, superuser, role in line.execute(_OWNER, (self.address.schema,)):
                    return self._translator.forbidden(error, owner, role, superuser=superuser)
        return self._translator.refused(error)

    def _connect(self) -> Line:
        line = self._connect_as_allowed()
        line.schema, line.patience = self.address.schema, self.patience
        return line

    def _connect_as_allowed(self) -> Line:
        options = self._options
        try:
            return self._connect_with(options)
        except psycopg.OperationalError as error:
            # PgBouncer refuses options that it cannot keep apart for its clients. The connection then goes without
            # them.
            if "startup parameter" not in str(error) or not options:
                raise
        self._options = ""
        return self._connect_with("")

    def _connect_with(self, options: str) -> Line:
        given = self.address.parts
        usual: dict[str, Any] = {
            "application_name": "queuectl",
            "connect_timeout": max(2, round(self.patience)),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": max(2000, round(self.patience * 1000)),
        }
        if "," in str(given.get("host", "")):
            usual["target_session_attrs"] = "read-write"
        options = f"{given.get('options', '')} {options}".strip()
        more = {"options": options} if options else {}
        more["client_encoding"] = "UTF8"  # overrides PGCLIENTENCODING
        return Line.connect(**{**usual, **given, **more}, autocommit=True, prepare_threshold=None)


def _limited(gen: PQGen[Answer], seconds: float) -> PQGen[Answer]:
    """Run the steps of psycopg's generator. Raises an error if they take too long."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if time.monotonic() > deadline:
                raise Silence
            wanted = gen.send(ready)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
