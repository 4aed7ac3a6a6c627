"""`queuectl operation`: operations that workers, or a server, carry on behind a command."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from queuectl.cli.cells import relative
from queuectl.cli.interruptible import interruptible
from queuectl.cli.live import progress
from queuectl.cli.operating import report, say_workers
from queuectl.cli.render import table
from queuectl.clock import boottime
from queuectl.domain.instant import format_instant
from queuectl.domain.operation import OperationStatus
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.errors import CommandFailed, Conflict
from queuectl.interrupt import INTERRUPTED
from queuectl.service.shapes import operations as documents

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

COLUMNS = ("id", "verb", "state", "matched", "changed", "refused", "by", "created", "where")
LESS = ("by", "created", "refused")
AGAIN = timedelta(milliseconds=200)


def list__options(parser: "Parser") -> None:
    """Add the arguments of `operation list`: none."""
    parser.example("queuectl operation list", "those that run, and those that ended within a week")


def list_(session: "Session") -> int:
    """Print the operations, the newest first."""
    found = session.queue.operations()
    if session.json:
        session.emit(documents.all_operations(found))
        return 0
    now = session.queue.now() if found else None
    table(session, COLUMNS, [_row(session, each, now) for each in found if now], LESS)
    if any(each.is_running for each in found):
        say_workers(session)
    return 0


def _row(session: "Session", status: OperationStatus, now: datetime) -> list[str]:
    tally, created = status.tally, status.created_at
    return [
        status.id,
        status.request.verb,
        status.state,
        str(tally.matched),
        str(tally.changed),
        str(tally.refused_count),
        status.by,
        relative(created, now) if session.on_terminal else format_instant(created),
        status.request.where,
    ]


def show_options(parser: "Parser") -> None:
    """Add the argument of `operation show`: the operation."""
    _one(parser)
    parser.example("queuectl operation list", "find the id first; then: queuectl operation show ID")


def show(session: "Session") -> int:
    """Print one operation."""
    status = session.queue.operation(session.args.operation)
    if session.json:
        session.emit(documents.operation(status))
        return 0
    for key, value in documents.operation(status)["operation"].items():
        if key != "refused" and value is not None and value != {}:
            session.print(f"{key} {value}")
    for each in status.tally.refused:
        session.print(f"refused {each.id}: {each.reason}")
    return 0


def cancel_options(parser: "Parser") -> None:
    """Add the argument of `operation cancel`: the operation."""
    _one(parser)
    parser.example("queuectl operation list", "find the id first; then: queuectl operation cancel ID")


def cancel(session: "Session") -> int:
    """Stop an operation after its running step. What was done stays."""
    status = session.queue.stop_operation(session.args.operation)
    if status.state == "done":
        raise Conflict(f"operation {status.id} had already ended")
    session.did(f"operation {status.id} is stopped")
    if session.json:
        session.emit(documents.operation(status))
    else:
        session.print(f"{status.id} stopped: {status.tally.changed} changed")
    return 0


def wait_options(parser: "Parser") -> None:
    """Add the arguments of `operation wait`: the operation, and for how long."""
    _one(parser)
    parser.add_argument("--timeout", metavar="D", help="at most this long")
    parser.example("queuectl operation list", "find the id first; then: queuectl operation wait ID")


def wait(session: "Session") -> int:
    """Wait until an operation has ended, and report its result. Ctrl+C ends the wait, not the operation."""
    timeout, id, done = session.args.timeout, session.args.operation, 0
    span = of_option("--timeout", parse_duration, timeout).total_seconds() if timeout else None
    deadline = None if span is None else boottime() + span
    status = session.queue.operation(id)
    if status.is_running:
        say_workers(session)
    with interruptible() as interrupted, progress(session, status.request.verb, None) as advance:
        while status.is_running:
            if interrupted():
                return INTERRUPTED
            if deadline is not None and boottime() >= deadline:
                raise CommandFailed(f"operation {id} still runs", "it goes on; wait for it again")
            status = session.queue.await_operation(id, AGAIN)
            advance(status.tally.matched - done)
            done = status.tally.matched
    return report(session, status)


def _one(parser: "Parser") -> None:
    parser.add_argument("operation", metavar="ID", help="the id of the operation")
