"""`queuectl explain`: why a job is in its state, and what must happen next."""

from typing import TYPE_CHECKING

from queuectl.cli.references import JOB_HELP, reference
from queuectl.domain.ids import handle
from queuectl.service.shapes.diagnosis import explanation
from queuectl.terminal import safe

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def explain_options(parser: "Parser") -> None:
    """Add the arguments of `explain`: the job."""
    parser.add_argument("job", metavar="JOB", help=JOB_HELP)
    parser.example("queuectl explain @last", "why does the newest job not run?")


def explain(session: "Session") -> int:
    """Explain the state of a job in sentences."""
    found = session.queue.explain(reference(session.args.job))
    if session.json:
        session.emit(explanation(found))
        return 0
    session.print(f"job {handle(found) if session.on_terminal else found.id} is {found.state}")
    for sentence in found.why:
        session.print(
            f"  because {safe(sentence)}" if sentence == found.why[0] else f"  and {safe(sentence)}"
        )
    for sentence in found.next:
        session.print(f"  next: {safe(sentence)}")
    return 0
