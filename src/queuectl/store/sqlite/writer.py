"""The single writing connection, with group commit: waiting operations share a transaction.

The cost of a commit is the sync to disk, which is the same for one change and for fifty. So callers submit operations;
a caller that finds the connection free runs all waiting operations in one transaction, and each caller gets its own
result. An operation that raises is rolled back alone (a savepoint); the others stay. No caller gets a result before the
commit.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

import apsw

from queuectl.errors import OutcomeUnknown
from queuectl.store.driver.session import closed
from queuectl.store.sqlite.connect import Database
from queuectl.store.sqlite.translated import Translated

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")
Operation = Callable[[apsw.Connection], Answer]


class _Ticket:
    """A waiting operation, and later its result."""

    __slots__ = ("answer", "args", "done", "error", "operation")

    def __init__(self, operation: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.operation, self.args = operation, args
        self.done = False
        self.answer: Any = None
        self.error: BaseException | None = None


class Writer:
    """Runs operations in transactions, alone or together. `commits` counts the transactions that changed something."""

    def __init__(self, database: Database, committed: Callable[[], None]) -> None:
        self._database, self._committed = database, committed
        self._free = threading.Condition(threading.Lock())
        self._waiting: list[_Ticket] = []
        self._busy = self._closed = False
        self._connection: apsw.Connection | None = None
        self.commits = 0

    def run(self, operation: Callable[[apsw.Connection, *Arguments], Answer], *args: *Arguments) -> Answer:
        """Run an operation and return its answer after the commit."""
        ticket = _Ticket(operation, args)
        if self._must_serve(ticket):
            self._serve(self._take())
        if ticket.error is not None:
            raise ticket.error
        answer: Answer = ticket.answer
        return answer

    def alone(self, question: Operation[Answer]) -> Answer:
        """Run a query on the writing connection, outside of a transaction, as soon as the connection is free."""
        with self._free:
            while self._busy:
                self._free.wait()
            self._refuse_closed()
            self._busy = True
        return self._ask(question)

    def peek(self, question: Operation[Answer]) -> Answer | None:
        """The same as `alone`, without waiting. Returns None while the connection is in use."""
        with self._free:
            self._refuse_closed()
            if self._busy:
                return None
            self._busy = True
        return self._ask(question)

    def _ask(self, question: Operation[Answer]) -> Answer:
        try:
            with Translated(self._database.path):
                return question(self._opened())
        finally:
            self._leave()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise closed(self._database.path)

    def close(self) -> None:
        """Wait for the running transaction, then close. Waiting operations are refused."""
        with self._free:
            self._closed = True
            while self._busy:
                self._free.wait()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._free.notify_all()

    def _must_serve(self, ticket: _Ticket) -> bool:
        """Wait until another caller has run the operation (False) or this caller has to run all waiting ones (True)."""
        with self._free:
            self._waiting.append(ticket)
            while not ticket.done and self._busy and not self._closed:
                self._free.wait()
            if ticket.done:
                return False
            if self._closed:
                self._waiting.remove(ticket)
            self._refuse_closed()
            self._busy = True
            return True

    def _take(self) -> list[_Ticket]:
        with self._free:
            taken, self._waiting = self._waiting, []
            return taken

    def _leave(self) -> None:
        with self._free:
            self._busy = False
            self._free.notify_all()

    def _serve(self, tickets: list[_Ticket]) -> None:
        # This result is set first, so that the other callers get it if this thread is interrupted in the middle.
        unknown = OutcomeUnknown("the transaction was interrupted", "repeating the same command is safe")
        failure: BaseException | None = unknown
        try:
            with Translated(self._database.path) as fault:
                self._transact(self._opened(), tickets, fault)
            failure = None
        except Exception as error:
            failure = error
        finally:
            for ticket in tickets:
                ticket.error = failure or ticket.error
                ticket.done = True
            self._leave()

    def _transact(self, connection: apsw.Connection, tickets: list[_Ticket], fault: Translated) -> None:
        before = connection.total_changes()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for ticket in tickets:
                self._perform(connection, ticket, alone=len(tickets) == 1)
            changed = connection.total_changes() != before
            if changed:
                self._database.refuse_replaced()
            fault.committing()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if changed:
            self.commits += 1
            self._committed()

    def _perform(self, connection: apsw.Connection, ticket: _Ticket, *, alone: bool) -> None:
        if alone:
            ticket.answer = ticket.operation(connection, *ticket.args)
            return
        connection.execute("SAVEPOINT operation")
        try:
            with Translated(self._database.path):
                ticket.answer = ticket.operation(connection, *ticket.args)
        except Exception as error:
            # SQLite rolls the whole transaction back when the disk is full; then every operation has failed.
            if not connection.in_transaction:
                raise
            ticket.error = error
            connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._database.writer()
        return self._connection
