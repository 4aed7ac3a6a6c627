"""Connections to one database, lent to one caller at a time, and nothing kept in their sessions.

Each statement is a transaction of its own, so that a pooler may give every one to another session: no prepared
statements, no `SET`, no locks beyond the transaction. What the settings of a session could do (time limits on the
server's side, `durability=fast`) is asked for as the connection is made, where there is no pooler that refuses it.

psycopg's own pool is not used: it connects in threads of its own and tells a caller that nothing came within the time,
not why; a wrong password is to be named, and a short command is to start no threads.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import InsufficientPrivilege

from queuectl.errors import QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.postgres.address import Address
from queuectl.store.postgres.faults import AGAIN, FAREWELL, ConnectionLost, Place, Silence

Answer = TypeVar("Answer")
Values = Sequence[Any] | Mapping[str, Any]
TRIES = 5
CANCEL_SECONDS = 1.0
LONGEST_PATIENCE = 600.0
SERVER_SHARE = 0.8
"""The server gives up a statement before we stop waiting for it, so that what came of it is known."""
_OWNER = """SELECT rolname, rolsuper, current_user FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
    WHERE nspname = %s"""


class Line(psycopg.Connection[tuple[Any, ...]]):
    """A connection that answers in time or not at all. `schema` stands for `{schema}` in its statements."""

    schema = ""
    patience = 10.0

    def wait(self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None) -> Answer:  # noqa: ARG002
        """psycopg's way to wait for an answer, with an end."""
        return super().wait(_limited(gen, self.patience), min(interval, self.patience))

    def rows(self, statement: str, values: Values = (), *, binary: bool = False) -> list[tuple[Any, ...]]:
        """What a statement answers."""
        return self.execute(self.named(statement), values or None, binary=binary).fetchall()

    def value(self, statement: str, values: Values = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.execute(self.named(statement), values or None).fetchone()
        return row[0] if row else None

    def run(self, statement: str, values: Values = ()) -> int:
        """How many rows a statement changed."""
        return self.execute(self.named(statement), values or None).rowcount

    def named(self, statement: str) -> bytes:
        """A statement with the schema filled in."""
        return statement.replace("{schema}", f'"{self.schema}"').encode()

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """A transaction that may take its time: ten minutes."""
        patience, self.patience = self.patience, LONGEST_PATIENCE
        try:
            with self.transaction():
                self.execute("SET LOCAL statement_timeout = 0")
                yield
        finally:
            self.patience = patience

    @property
    def pooled(self) -> bool:
        """Whether somebody stands between us and the server: the session is not the one we were greeted by."""
        return bool(self.value("SELECT pg_backend_pid()") != self.info.backend_pid)

    @property
    def stale(self) -> bool:
        """Whether something came in while nobody asked: a farewell of the server, as a rule."""
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))


class Connections:
    """Makes, lends and keeps connections. `greet` looks each new one over before it is used."""

    KEPT, MOST = 4, 16

    def __init__(
        self, address: Address, options: Mapping[str, str], patience: float, greet: Callable[[Line], None]
    ) -> None:
        self.address, self._patience, self._greet = address, patience, greet
        self._options = " ".join(f"-c {name}={value}" for name, value in options.items())
        self._place = Place(address.shown, str(address.parts.get("user", "")), address.schema)
        self._process = os.getpid()
        self._idle: list[Line] = []
        self._room = threading.BoundedSemaphore(self.MOST)
        self._closed = False
        self.answers = True

    def read(self, question: Callable[[Line], Answer]) -> Answer:
        """Ask something. A connection that broke meanwhile is replaced once: asking twice does no harm."""
        try:
            return self._try(question, writing=False)
        except ConnectionLost:
            return self._try(question, writing=False)

    def write(self, change: Callable[[Line], Answer]) -> Answer:
        """Change something. Raises OutcomeUnknown if the connection is lost after it was sent."""
        return self._try(change, writing=True)

    def open(self, prepare: Callable[[Line], None] | None = None) -> Line:
        """A connection of the caller's own, looked over and prepared; the caller closes it."""
        self._refuse_use()
        try:
            line = self._connect()
        except psycopg.Error as error:
            self.answers = False
            raise self._place.unreachable(error) from error
        try:
            with self._translated(line, writing=False):
                self._greet(line)
                if prepare is not None:
                    prepare(line)
        except BaseException:
            line.close()
            raise
        self.answers = True
        return line

    def close(self) -> None:
        """Close those that are idle; one that is lent closes when it comes back."""
        self._closed = True
        with suppress(IndexError):  # another thread does the same
            while self._idle:
                self._idle.pop().close()

    def _try(self, work: Callable[[Line], Answer], *, writing: bool) -> Answer:
        for left in reversed(range(TRIES)):
            try:
                with self._lent() as line, self._translated(line, writing=writing):
                    answer = work(line)
                self.answers = True
                return answer
            except StoreUnavailable as fault:
                if not left or not isinstance(fault.__cause__, AGAIN):
                    raise
        raise AssertionError("unreachable")

    def _refuse_use(self) -> None:
        """In the child of a fork a connection would answer two processes."""
        if os.getpid() != self._process:
            raise StoreUnusable("the store was opened before a fork", "open it in the process that uses it")
        if self._closed:
            raise StoreUnavailable(f"{self.address.shown} was closed already")

    @contextmanager
    def _lent(self) -> Iterator[Line]:
        self._refuse_use()
        if not self._room.acquire(timeout=self._patience):
            raise StoreUnavailable(
                f"{self.address.shown}: {self.MOST} connections of this process are all busy"
            )
        try:
            line = self._take()
            try:
                yield line
            finally:
                self._give_back(line)
        finally:
            self._room.release()

    def _take(self) -> Line:
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if not line.stale:
                return line
            line.close()
        return self.open()

    def _give_back(self, line: Line) -> None:
        usable = not line.closed and line.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if usable and not self._closed and len(self._idle) < self.KEPT:
            self._idle.append(line)
            if self._closed:  # since a moment ago, by another thread
                self.close()
        else:
            line.close()

    @contextmanager
    def _translated(self, line: Line, *, writing: bool) -> Iterator[None]:
        try:
            yield
        except Silence as silence:
            # Else it goes on in the server, and each repetition with it: a commit that waits for a standby, say.
            with suppress(psycopg.Error):
                line.cancel_safe(timeout=CANCEL_SECONDS)
            line.close()
            self.answers = False
            raise self._place.lost(writing=writing, silent=True) from silence
        except psycopg.Error as error:
            if line.closed or isinstance(error, FAREWELL):
                line.close()
                raise self._place.lost(writing=writing) from error
            raise self._fault(line, error) from error

    def _fault(self, line: Line, error: psycopg.Error) -> QueuectlError:
        """What a refusal means. Who lacks a right is told who has it."""
        if isinstance(error, InsufficientPrivilege):
            with suppress(psycopg.Error):  # without an answer the hint only names no owner
                for owner, superuser, role in line.execute(_OWNER, (self.address.schema,)):
                    return self._place.refused(error, owner, role, superuser=superuser)
        return self._place.said(error)

    def _connect(self) -> Line:
        line = self._connect_as_allowed()
        line.schema, line.patience = self.address.schema, self._patience
        return line

    def _connect_as_allowed(self) -> Line:
        options = self._options
        try:
            return self._connect_with(options)
        except psycopg.OperationalError as error:
            # PgBouncer refuses what it could not keep apart for its clients; we do without.
            if "startup parameter" not in str(error) or not options:
                raise
        self._options = ""
        return self._connect_with("")

    def _connect_with(self, options: str) -> Line:
        given = self.address.parts
        usual: dict[str, Any] = {
            "application_name": "queuectl",
            "connect_timeout": max(2, round(self._patience)),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": max(2000, round(self._patience * 1000)),
        }
        if "," in str(given.get("host", "")):
            usual["target_session_attrs"] = "read-write"
        options = f"{given.get('options', '')} {options}".strip()
        more = {"options": options} if options else {}
        more["client_encoding"] = "UTF8"  # whatever PGCLIENTENCODING says
        return Line.connect(**{**usual, **given, **more}, autocommit=True, prepare_threshold=None)


def _limited(gen: PQGen[Answer], seconds: float) -> PQGen[Answer]:
    """The same dialogue, broken off when it takes too long."""
    deadline = time.monotonic() + seconds
    try:
        wish = next(gen)
        while True:
            ready = yield wish
            if time.monotonic() > deadline:
                raise Silence
            wish = gen.send(ready)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
