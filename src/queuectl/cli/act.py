"""Changes many jobs: asks for confirmation first, shows the progress, and stops on Ctrl+C between two steps."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from queuectl.cli.live import progress
from queuectl.cli.report import AGAIN, Act, Report
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.interrupt import INTERRUPTED
from queuectl.service import shapes
from queuectl.service.operation import Operation

if TYPE_CHECKING:
    from queuectl.cli.session import Session


def act(session: "Session", what: Act) -> int:
    """Change the jobs step by step and report the result for each; returns the exit code of the first refusal."""
    report, failed = Report(session, what), None
    with interruptible() as interrupted, progress(session, what.verb, what.count) as advance:
        try:
            with closing(what.steps):
                for changes in what.steps:
                    report.tell(changes)
                    advance(len(changes))
                    if interrupted():
                        break
        except QueuectlError as error:
            if not report.reported:
                raise
            failed = error
    return report.end(is_interrupted=interrupted(), failed=failed)


def count_down(session: "Session", verb: str, done: str, count: int | None, steps: Operation[int]) -> int:
    """Change jobs without reading them: each step returns the number of changed jobs. `count` may be unknown."""
    total = 0
    with interruptible() as interrupted, progress(session, verb, count) as advance, closing(steps):
        for deleted in steps:
            total += deleted
            session.did(f"{done} {total}")
            advance(deleted)
            if interrupted():
                break
    session.did(f"{done} {total}")
    is_interrupted = {"interrupted": True} if interrupted() else {}
    if session.json:
        session.emit(shapes.document(**{done: total}, **is_interrupted))
    else:
        session.print(f"{done} {total}")
    if is_interrupted:
        session.err.write(f"queuectl: interrupted: the other jobs are unchanged; {AGAIN}\n")
    return INTERRUPTED if is_interrupted else 0


def confirm(session: "Session", verb: str, count: int) -> None:
    """Ask whether to change `count` jobs, unless --yes is given. Raises InvalidInput if the answer is no."""
    if session.args.yes or count == 0:
        return
    jobs = "1 job" if count == 1 else f"{count} jobs"
    if not sys.stdin.isatty():
        raise InvalidInput(f"this command would {verb} {jobs}", "add --yes to confirm")
    session.err.write(f"{verb} {jobs}? [y/N] ")
    session.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput(f"{verb}: not confirmed, nothing was changed")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Complete the running step after Ctrl+C, and end the command at once after a second Ctrl+C."""
    noted = False

    def note(_number: int, _frame: object) -> None:
        nonlocal noted
        if noted:
            raise KeyboardInterrupt
        noted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, before)
