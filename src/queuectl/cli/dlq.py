"""The `dlq` commands: list, show, retry and purge the jobs in state `dead`."""

from typing import TYPE_CHECKING

from queuectl.cli import jobs
from queuectl.cli.act import run
from queuectl.cli.cells import columns_of
from queuectl.cli.change import (
    purge_all,
    refuse_to_remote,
    retried_kind,
    retry_selected,
    state_of,
    to_options,
)
from queuectl.cli.references import single_references
from queuectl.cli.report import Act
from queuectl.cli.selecting import selected, selection_options, wanted_of
from queuectl.domain.ids import handle
from queuectl.domain.instant import format_instant
from queuectl.domain.job import Job, State
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.domain.query import Filter
from queuectl.domain.where import Where, term
from queuectl.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

DEAD: frozenset[State] = frozenset(("dead",))
STEP = 500
"""Number of jobs that one read returns."""


def list__options(parser: "Parser") -> None:
    """Add the arguments of `dlq list`: those of `list`."""
    jobs.list__options(parser)
    parser.examples.clear()
    parser.example("queuectl dlq list", "what failed for good, and why")


def list_(session: "Session") -> int:
    """Print the dead jobs."""
    args = session.args
    if args.state not in (None, "dead"):
        raise InvalidInput("the DLQ contains only dead jobs", f"queuectl list --state {args.state}")
    wanted = wanted_of(session, "state:dead", names=("queue", "tag", "batch", "since"))
    return jobs.print_jobs(session, wanted, jobs.limit_of(args), columns_of(args.columns))


def show_options(parser: "Parser") -> None:
    """Add the arguments of `dlq show`: the job."""
    jobs.show_options(parser)
    parser.examples.clear()
    parser.example("queuectl dlq list --columns id,error", "find the id first; then: queuectl dlq show ID")


def show(session: "Session") -> int:
    """Print everything about a dead job."""
    [name, *others] = single_references(session)
    if others:
        raise InvalidInput(
            f"{1 + len(others)} jobs are given, one is expected", "one at a time: … | xargs -n 1"
        )
    job = session.queue.show(name)
    _refuse_living(job)
    return jobs.print_job(session, job)


def retry_options(parser: "Parser") -> None:
    """Add the arguments of `dlq retry`: the jobs, or all dead jobs, and which other jobs run again."""
    selection_options(parser, "retrying")
    parser.flag("--all", help="all dead jobs")
    parser.add_argument("--queue", "-Q", metavar="Q", help="with --all: of this queue")
    parser.flag("--alone", help="without their parents, and without the jobs that wait for them")
    parser.example("queuectl dlq retry --all", "run all dead jobs once more")


def retry(session: "Session") -> int:
    """Retry the given dead jobs, or all dead jobs, or those that match a filter."""
    args = session.args
    if not (args.all or args.job or args.where):
        raise InvalidInput("no job is given", "give ids or --all; queuectl dlq list shows the jobs")
    if args.queue and not (args.all or args.where):
        raise InvalidInput("--queue needs --all")
    meant = selected(session, ("queue",), "state:dead", checked=False)
    if isinstance(meant, Where):
        return _retry_all(session, meant)

    ids = session.queue.resolve(meant)
    for start in range(0, len(ids), STEP):
        for job in session.queue.get(ids[start : start + STEP]).values():
            _refuse_living(job)
    return retry_selected(session, ids)


def purge_options(parser: "Parser") -> None:
    """Add the arguments of `dlq purge`: the age, and the confirmation."""
    parser.add_argument("--older-than", metavar="D", help="only those that died longer ago than this")
    to_options(parser)
    parser.flag("--yes", "-y", help="do not ask before deleting many")
    parser.example("queuectl dlq purge --older-than 30d --yes", "delete old dead jobs for good")


def purge(session: "Session") -> int:
    """Delete dead jobs, after a confirmation."""
    refuse_to_remote(session)
    older = session.args.older_than
    before = session.queue.now() - of_option("--older-than", parse_duration, older) if older else None
    if session.args.where is None:
        return purge_all(session, Filter(states=DEAD, ended_before=before))
    terms = ["state:dead", *([term("older", format_instant(before))] if before else [])]
    return purge_all(session, wanted_of(session, *terms, names=()))


def _retry_all(session: "Session", wanted: Where) -> int:
    """Retry the jobs that are dead now. A job that dies again during the command is not retried twice."""
    steps = session.queue.retry(wanted, alone=session.args.alone)
    if session.args.all:
        session.args.yes = True  # `--all` names them
    what = Act(
        verb="retry",
        args={"alone": session.args.alone},
        line=state_of,
        kind=retried_kind,
        met=lambda change: "had left the DLQ" if change.state not in (None, "dead") else None,
        none="the DLQ is empty" if session.args.all else None,
    )
    return run(session, wanted, steps, what)


def _refuse_living(job: Job) -> None:
    if job.state != "dead":
        name = handle(job)
        again = {"completed": f"queuectl retry --force {name}", "cancelled": f"queuectl retry {name}"}
        raise Conflict(
            f"job {name} is {job.state}, not dead", again.get(job.state, f"queuectl explain {name}")
        )
