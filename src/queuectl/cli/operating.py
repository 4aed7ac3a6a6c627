"""Changes all jobs that match a filter by an operation: with --background, and through a server if there are many.

Through a server such a command is one operation: its id is made here, so the request can be repeated when a reply is
lost or the server was restarted. The command waits for its end, and Ctrl+C stops it.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from queuectl.cli.interruptible import interruptible
from queuectl.cli.live import progress
from queuectl.cli.report import AGAIN, REFUSALS_SHOWN, Act
from queuectl.clock import random_bytes
from queuectl.domain.operation import OperationStatus
from queuectl.domain.where import Where
from queuectl.errors import Conflict, OutcomeUnknown
from queuectl.interrupt import INTERRUPTED
from queuectl.service import shapes
from queuectl.service.operations import new_id
from queuectl.service.shapes import operations as documents

if TYPE_CHECKING:
    from queuectl.cli.session import Session

DONE = {
    "cancel": "cancelled",
    "retry": "to run again",
    "hold": "held",
    "release": "released",
    "edit": "changed",
    "delete": "deleted",
}
TURN = timedelta(seconds=1)
"""For how long one request waits. Between two, the progress is shown, and Ctrl+C is noticed."""


def run(session: "Session", where: Where, what: Act, count: int | None) -> int:
    """Change the jobs that match: begin an operation and leave it to the workers, or wait for its end."""
    if session.args.background:
        return _begin(session, where, what)
    return _carry_out(session, where, what, count)


def _begin(session: "Session", where: Where, what: Act) -> int:
    status = session.queue.operate(what.verb, where.text, args=what.args, limit=where.limit)
    session.did(f"operation {status.id} is stored")
    if session.json:
        session.emit(documents.operation(status))
    else:
        session.print(status.id)
    say_workers(session)
    return 0


def say_workers(session: "Session") -> None:
    """Report that nothing carries on an operation if no worker lives. A server does it itself."""
    if not session.is_remote and not any(each.state == "running" for each in session.queue.workers()):
        session.say("queuectl: no worker lives, so nothing is changed yet; start one: queuectl worker start")


def _carry_out(session: "Session", where: Where, what: Act, count: int | None) -> int:
    id, done = new_id(session.queue.now(), random_bytes), 0
    with interruptible() as interrupted, progress(session, what.verb, count) as advance:
        while True:
            status = _asked(session, where, what, id)
            session.did(_summary(status))
            advance(status.tally.matched - done)
            done = status.tally.matched
            if status.is_running and interrupted():
                status = session.queue.stop_operation(id)
            if not status.is_running:
                break
    return report(session, status, none=what.none, is_interrupted=interrupted())


def _asked(session: "Session", where: Where, what: Act, id: str) -> OperationStatus:
    """The operation after a while. The same request begins it, and is repeated until it has ended."""
    try:
        return session.queue.operate(
            what.verb, where.text, args=what.args, id=id, limit=where.limit, wait=TURN
        )
    except OutcomeUnknown as unknown:
        raise OutcomeUnknown(unknown.message, f"queuectl operation show {id} shows it") from unknown


def report(
    session: "Session", status: OperationStatus, *, none: str | None = None, is_interrupted: bool = False
) -> int:
    """Report the result of an operation that has ended. Returns the exit code."""
    tally = status.tally
    is_interrupted = is_interrupted and status.state == "stopped"
    for each in tally.refused[:REFUSALS_SHOWN]:
        session.err.write(f"queuectl: {each.reason}\n")
    if tally.refused_count > REFUSALS_SHOWN:
        session.err.write(f"queuectl: and {tally.refused_count - REFUSALS_SHOWN} more\n")
    if session.json:
        session.emit(_document(status, is_interrupted=is_interrupted))
    if status.state == "stopped":
        why = "interrupted" if is_interrupted else "stopped"
        session.err.write(
            f"queuectl: {why}: {_summary(status)}; the other jobs are unchanged, {AGAIN}, "
            f"or add --resume {status.cursor}\n"
        )
        return INTERRUPTED if is_interrupted else 1
    session.say(
        _summary(status) if tally.matched else none or "queuectl: no job matches, nothing was changed"
    )
    return Conflict.exit_code if tally.refused_count and tally.refused_count == tally.matched else 0


def _document(status: OperationStatus, *, is_interrupted: bool) -> dict[str, object]:
    """The keys of a command on a store, without its jobs, and the id of the operation."""
    whole = documents.operation(status)["operation"]
    names = ("matched", "changed", "unchanged", "refused", "refused_count")
    is_complete = status.state == "done" and status.request.limit is None
    rest: dict[str, object] = {"resume": None if is_complete else status.cursor, "operation": status.id}
    if is_interrupted:
        rest["interrupted"] = True
    if status.tally.refused:
        rest["error"] = shapes.error(Conflict(status.tally.refused[0].reason))["error"]
    return shapes.document(**{name: whole[name] for name in names}, **rest)


def _summary(status: OperationStatus) -> str:
    tally = status.tally
    parts = (
        (tally.changed, DONE[status.request.verb]),
        (tally.unchanged, "unchanged"),
        (tally.refused_count, "refused"),
    )
    return ", ".join(f"{count} {word}" for count, word in parts if count) or "nothing was changed"
