"""`progress`: a running command reports how far it is. The store is not opened, and nothing here fails the command."""

import os
import stat
from typing import TYPE_CHECKING

from queuectl.service.shapes.record import document
from queuectl.worker import progress_line

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def progress_options(parser: "Parser") -> None:
    """Add the arguments of `progress`: the percentage and the message."""
    parser.add_argument("percent", metavar="PERCENT", help="a number from 0 to 100")
    parser.add_argument(
        "message", nargs="?", default="", metavar="MESSAGE", help="a text of at most 200 characters"
    )
    parser.example("queuectl progress 40", "in the command of a job: 40 % are done")
    parser.example("queuectl progress 40 'page 12 of 30'", "with a message")


def progress(session: "Session") -> int:
    """Send the progress to the worker. Exits with 0 also if it is dropped, because it must not fail the job."""
    fault = _send(session.args.percent, session.args.message)
    if fault:
        session.say(f"queuectl: the progress is dropped: {fault}")
    if session.json:
        session.emit(document(sent=fault is None))
    return 0


def _send(percent: str, message: str) -> str | None:
    """Write the line into the pipe of the worker. Returns why it is dropped, or None."""
    path, attempt_id = os.environ.get("QUEUECTL_PIPE"), os.environ.get("QUEUECTL_ATTEMPT_ID")
    line = progress_line.write(attempt_id or "-", percent, message)
    if progress_line.percent_of(percent) is None:
        return f"{percent!r} is not a number from 0 to 100"
    if progress_line.read(line.rstrip(b"\n")) is None:
        return f"the message is longer than {progress_line.LONGEST_MESSAGE} characters"
    if not attempt_id:
        return "this is not the command of a job"
    if not path:
        return "the worker has no pipe for it"
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"the pipe of the worker cannot be opened: {error.strerror}"
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            return "the pipe of the worker was replaced by a file"
        os.write(pipe, line)
    except OSError as error:
        return f"the pipe of the worker cannot take it: {error.strerror}"
    finally:
        os.close(pipe)
    return None
