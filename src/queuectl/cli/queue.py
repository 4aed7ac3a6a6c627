"""The `queue` commands: list, pause, resume and limit."""

from typing import TYPE_CHECKING

from msgspec import UNSET

from queuectl.cli.render import table
from queuectl.domain.job import STATES
from queuectl.domain.queue import QueueChange
from queuectl.errors import InvalidInput
from queuectl.service import shapes
from queuectl.service.queue_status import QueueStatus

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

COLUMNS = ("queue", "is", "limit", *STATES)
LESS = ("cancelled", "held", "blocked", "completed", "failed", "dead", "limit", "processing")
"""Columns to omit if the terminal is too narrow, the least important first."""


def list__options(parser: "Parser") -> None:
    """Add an example only: `queue list` has no arguments."""
    parser.example("queuectl queue list", "all queues")


def list_(session: "Session") -> int:
    """Print the queues with their counts and limits."""
    found = session.queue.queues()
    if session.json:
        session.emit(shapes.all_queues(found))
        return 0
    rows = [_row(queue) for queue in found]
    if any(queue.reason for queue in found):
        rows = [[*row, queue.reason or ""] for row, queue in zip(rows, found, strict=True)]
        table(session, (*COLUMNS, "reason"), rows, LESS)
    else:
        table(session, COLUMNS, rows, LESS)
    return 0


def _row(queue: QueueStatus) -> list[str]:
    counts = (str(queue.jobs.get(state, 0)) for state in STATES)
    return [queue.name, "paused" if queue.paused else "running", str(queue.limit or ""), *counts]


def pause_options(parser: "Parser") -> None:
    """Add the arguments of `queue pause`: the queue and the reason."""
    parser.add_argument("queue", metavar="Q", help="the name of the queue")
    parser.add_argument("--reason", metavar="R", help="a text that is stored with the pause")
    parser.example("queuectl queue pause default", "start no more of its jobs; running jobs continue")


def pause(session: "Session") -> int:
    """Start no more jobs from a queue."""
    known = session.args.queue in {queue.name for queue in session.queue.queues()}
    given = session.args.reason
    wanted = QueueChange(paused=True, reason=UNSET if given is None else given)
    changed = session.queue.change_queue(session.args.queue, wanted)
    if not known:
        session.say(f"queuectl: queue {session.args.queue} has no jobs yet")
    return _report(session, "paused" if changed else "was already paused")


def resume_options(parser: "Parser") -> None:
    """Add the arguments of `queue resume`: the queue."""
    parser.add_argument("queue", metavar="Q", help="the name of the queue")
    parser.example("queuectl queue resume default", "start jobs from it again")


def resume(session: "Session") -> int:
    """Start jobs from a queue again."""
    changed = session.queue.change_queue(session.args.queue, QueueChange(paused=False))
    return _report(session, "resumed" if changed else "was not paused")


def limit_options(parser: "Parser") -> None:
    """Add the arguments of `queue limit`: the queue and the number of jobs."""
    parser.add_argument("queue", metavar="Q", help="the name of the queue")
    parser.add_argument(
        "limit", metavar="N", help="at most this many at once, over all workers; none removes the limit"
    )
    parser.example("queuectl queue limit default 2", "at most two of its jobs at once")
    parser.example("queuectl queue limit default none", "without limit")


def limit(session: "Session") -> int:
    """Limit how many jobs of a queue run at once."""
    text = session.args.limit
    if text != "none" and not (text.isdecimal() and len(text) < 8):
        raise InvalidInput(f"{text!r} is not a count", "a whole number from 1, or none")
    wanted = QueueChange(limit=None if text == "none" else int(text))
    session.queue.change_queue(session.args.queue, wanted)
    return _report(session, "has no limit" if text == "none" else f"runs at most {text} at once")


def _report(session: "Session", what: str) -> int:
    name = session.args.queue
    session.did(f"queue {name} {what}")
    if session.json:
        found = next((queue for queue in session.queue.queues() if queue.name == name), None)
        session.emit(shapes.one_queue(found, name))
    else:
        session.print(f"queue {name} {what}")
    return 0
