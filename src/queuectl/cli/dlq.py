"""The dead letter queue: the jobs in state `dead`."""

from typing import TYPE_CHECKING

from queuectl.cli import jobs
from queuectl.cli.cells import columns_of
from queuectl.cli.change import state_of, tell, told_count, wanted_ids
from queuectl.cli.references import JOBS_HELP, reference
from queuectl.domain.job import Job, State
from queuectl.domain.quantity import parse_duration
from queuectl.domain.query import Filter
from queuectl.errors import Conflict, InvalidInput
from queuectl.service import commands, queries

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

DEAD: frozenset[State] = frozenset(("dead",))


def list__options(parser: "Parser") -> None:
    """The same as `list`, for dead jobs."""
    jobs.list__options(parser)
    parser.examples.clear()
    parser.example("queuectl dlq list", "what failed for good, and why")


def list_(session: "Session") -> int:
    """Jobs that failed for good."""
    args = session.args
    if args.state not in (None, "dead"):
        raise InvalidInput("the DLQ holds dead jobs only", f"queuectl list --state {args.state}")
    wanted = Filter(
        states=DEAD,
        queue=args.queue,
        tag=args.tag,
        batch=args.batch,
        created_since=session.store.now() - parse_duration(args.since) if args.since else None,
    )
    return jobs.print_jobs(session, wanted, jobs.limit_of(args), columns_of(args.columns))


def show_options(parser: "Parser") -> None:
    """The job."""
    jobs.show_options(parser)
    parser.examples.clear()
    parser.example("queuectl dlq list --columns id,error", "find the id first; then: queuectl dlq show ID")


def show(session: "Session") -> int:
    """Everything about a dead job."""
    job = queries.show(session.store, reference(session.args.job))
    _refuse_living(job)
    return jobs.print_job(session, job)


def retry_options(parser: "Parser") -> None:
    """Which jobs."""
    parser.add_argument("job", nargs="*", metavar="JOB", help=JOBS_HELP)
    parser.flag("--all", help="all dead jobs")
    parser.add_argument("--queue", "-Q", metavar="Q", help="with --all: of this queue")
    parser.flag("--alone", help="without their parents, and without the jobs that wait for them")
    parser.example("queuectl dlq retry --all", "run all dead jobs once more")


def retry(session: "Session") -> int:
    """Run dead jobs once more."""
    args = session.args
    if args.all == bool(args.job):
        raise InvalidInput("name the jobs, or give --all", "queuectl dlq list shows them")
    if args.queue and not args.all:
        raise InvalidInput("--queue goes with --all")
    if args.all:
        return _retry_all(session, Filter(states=DEAD, queue=args.queue))
    ids = wanted_ids(session)
    for job in session.store.get(ids).values():
        _refuse_living(job)
    return tell(session, commands.retry(session.store, ids, alone=args.alone), state_of)


def purge_options(parser: "Parser") -> None:
    """Which dead jobs."""
    parser.add_argument("--older-than", metavar="D", help="only those that died longer ago than this")
    parser.example("queuectl dlq purge --older-than 30d", "delete old dead jobs for good")


def purge(session: "Session") -> int:
    """Delete dead jobs."""
    older = session.args.older_than
    before = session.store.now() - parse_duration(older) if older else None
    return told_count(
        session, "purged", commands.purge(session.store, Filter(states=DEAD, ended_before=before))
    )


def _retry_all(session: "Session", wanted: Filter) -> int:
    """Batch by batch, each read before it is changed: a job that dies meanwhile again is not taken twice."""
    batches = list(commands.select(session.store, wanted))
    changes = [change for ids in batches for change in commands.retry(session.store, ids)]
    code = tell(session, changes, state_of)
    if not changes:
        session.say("the DLQ is empty")
    return code


def _refuse_living(job: Job) -> None:
    if job.state != "dead":
        raise Conflict(
            f"job {job.id} is {job.state}, not dead", f"queuectl show {job.id}, or queuectl retry {job.id}"
        )
