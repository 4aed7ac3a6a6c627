"""`queuectl explain`: why a job is in its state, and what must happen next."""

from typing import TYPE_CHECKING

from queuectl.cli.references import JOB_HELP, reference
from queuectl.domain.ids import handle
from queuectl.service import shapes
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
    job = found.job
    if session.json:
        session.emit(shapes.document(job=job.id, state=job.state, why=found.why, next=found.next))
        return 0
    session.print(f"job {handle(job) if session.on_terminal else job.id} is {job.state}")
    for sentence in found.why:
        session.print(
            f"  because {safe(sentence)}" if sentence == found.why[0] else f"  and {safe(sentence)}"
        )
    for sentence in found.next:
        session.print(f"  next: {safe(sentence)}")
    return 0
