"""`queuectl explain`: why a job is in its state, and what must happen next."""

from typing import TYPE_CHECKING

from queuectl.cli.references import JOBS_HELP, single_references
from queuectl.domain.ids import handle
from queuectl.service.shapes.diagnosis import explanation, explanations
from queuectl.terminal import safe

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.service.explain import Explanation


def explain_options(parser: "Parser") -> None:
    """Add the arguments of `explain`: the jobs."""
    parser.add_argument("job", nargs="+", metavar="JOB", help=JOBS_HELP)
    parser.example("queuectl explain @last", "why does the newest job not run?")


def explain(session: "Session") -> int:
    """Explain the states of jobs in sentences."""
    found = [session.queue.explain(name) for name in single_references(session)]
    if session.json:
        session.emit(explanation(found[0]) if len(found) == 1 else explanations(found))
        return 0
    for each in found:
        _print(session, each)
    return 0


def _print(session: "Session", found: "Explanation") -> None:
    session.print(f"job {handle(found) if session.on_terminal else found.id} is {found.state}")
    for sentence in found.why:
        session.print(
            f"  because {safe(sentence)}" if sentence == found.why[0] else f"  and {safe(sentence)}"
        )
    for sentence in found.next:
        session.print(f"  next: {safe(sentence)}")
