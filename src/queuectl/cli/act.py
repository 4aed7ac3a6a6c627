"""Changes many jobs: asks for confirmation first, shows the progress, and stops on Ctrl+C between two steps."""

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from queuectl.cli.interruptible import interruptible
from queuectl.cli.live import progress
from queuectl.cli.report import AGAIN, Act, Report
from queuectl.domain.job import STATES
from queuectl.domain.where import Where
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.interrupt import INTERRUPTED
from queuectl.service import shapes
from queuectl.service.changing import Change
from queuectl.service.operation import Operation, Selection

if TYPE_CHECKING:
    from queuectl.cli.session import Session

FEW = 500
"""Up to this many jobs that match a filter, a command through a server changes them one by one."""


def run(session: "Session", meant: Selection, steps: Operation[Sequence[Change]], what: Act) -> int:
    """Change the selected jobs: asks first if a filter selected them, or if `what.asks` and there are several."""
    by_filter = isinstance(meant, Where)
    if session.args.dry_run:
        return preview(session, what.verb, steps)
    if by_filter and session.args.yes and not session.err.isatty() and not session.is_remote:
        count = None  # nobody sees it
    else:
        count = steps.count()
        if by_filter or (what.asks and count > 1):
            confirm(session, what.verb, count)
    if isinstance(meant, Where) and (session.args.background or _is_for_server(session, count)):
        from queuectl.cli import operating

        steps.close()
        return operating.run(session, meant, what, count)
    return _act(session, replace(what, by_filter=by_filter), steps, count)


def _is_for_server(session: "Session", count: int | None) -> bool:
    """Whether the server carries out the command as one operation. A few jobs are a request each."""
    return session.is_remote and count is not None and count > FEW


def preview(session: "Session", verb: str, steps: Operation[Sequence[Change]]) -> int:
    """Print what an operation would change, and change nothing."""
    with closing(steps):
        found = steps.preview()
    if session.json:
        session.emit(shapes.preview(found))
        return 0
    states = ", ".join(f"{found.by_state[state]} {state}" for state in STATES if state in found.by_state)
    jobs = "1 job" if found.matched == 1 else f"{found.matched} jobs"
    session.print(f"would {verb} {jobs}" + (f": {states}" if states else ""))
    if found.sample:
        session.print(f"for example {', '.join(found.sample)}")
    return 0


def _act(session: "Session", what: Act, steps: Operation[Sequence[Change]], count: int | None) -> int:
    """Change the jobs step by step and report the result for each; returns the exit code."""
    report, failed = Report(session, what, steps, count), None
    with interruptible() as interrupted, progress(session, what.verb, count) as advance:
        try:
            with closing(steps):
                for changes in steps:
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
