"""Commands that change jobs: cancel, retry, hold, release, edit, delete, purge."""

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from queuectl.cli.jobs import states_of
from queuectl.cli.references import JOBS_HELP, references
from queuectl.domain.instant import format_instant, in_range, parse_instant
from queuectl.domain.job import STATES, TERMINAL
from queuectl.domain.quantity import parse_duration
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import commands, queries, shapes
from queuectl.service.commands import Change

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def cancel_options(parser: "Parser") -> None:
    """Which jobs, and why."""
    _jobs(parser, required=False)
    parser.add_argument("--queue", "-Q", metavar="Q", help="all of this queue that have not ended")
    parser.add_argument("--batch", metavar="B", help="all of this batch that have not ended")
    parser.add_argument("--state", metavar="S", help="all in this state")
    parser.flag("--all", help="all that have not ended")
    parser.add_argument("--reason", metavar="R", help="kept with the job")
    parser.flag("--yes", "-y", help="do not ask before cancelling many")
    parser.example(
        "queuectl cancel @last --reason 'wrong branch'", "one job; a running one is ended, tree and all"
    )
    parser.example("queuectl cancel --queue default --yes", "all of a queue that have not ended")


def cancel(session: "Session") -> int:
    """Never start, or end, these jobs."""
    args = session.args
    who = f"{_user()}@{os.uname().nodename}"
    if args.job and (args.all or args.queue or args.batch or args.state):
        raise InvalidInput("jobs are named and a selection is given", "give one of them")
    ids = wanted_ids(session) if args.job else _selected(session)
    return tell(session, commands.cancel(session.store, ids, by=who, reason=args.reason), _cancelled)


def retry_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.flag("--force", help="completed ones too")
    parser.flag("--alone", help="without their parents, and without the jobs that wait for them")
    parser.example("queuectl retry @last --force", "once more, with a new retry budget")


def retry(session: "Session") -> int:
    """Run these once more, behind their parents; the jobs that they had cancelled wait for them again."""
    args = session.args
    changes = commands.retry(session.store, wanted_ids(session), force=args.force, alone=args.alone)
    return tell(session, changes, state_of)


def hold_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.example("queuectl hold @last", "not to start until released")


def hold(session: "Session") -> int:
    """Keep these from starting."""
    return tell(session, commands.hold(session.store, wanted_ids(session)), state_of)


def release_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.flag("--anyway", help="without waiting for their parents")
    parser.example("queuectl release @last", "may start when due")


def release(session: "Session") -> int:
    """Let held jobs start."""
    changes = commands.release(session.store, wanted_ids(session), anyway=session.args.anyway)
    return tell(session, changes, state_of)


def edit_options(parser: "Parser") -> None:
    """Which jobs, and what changes."""
    _jobs(parser)
    parser.add_argument("--priority", "-p", metavar="N", help="-1000 to 1000, higher first")
    parser.add_argument("--at", metavar="T", help="not before this time")
    parser.add_argument("--delay", "--in", metavar="D", help="not before this much time has passed")
    parser.add_argument("--queue", "-Q", metavar="Q", help="another queue")
    parser.example("queuectl edit @last --priority 10", "sooner; only jobs that have not started")


def edit(session: "Session") -> int:
    """Another priority, time or queue for jobs that have not started."""
    args = session.args
    if args.priority is None and args.at is None and args.delay is None and args.queue is None:
        raise InvalidInput("nothing is to be changed", "give --priority, --at, --in or --queue")
    if args.at is not None and args.delay is not None:
        raise InvalidInput("--at and --in say the same thing twice", "give one of them")
    run_at = None
    if args.at is not None:
        run_at = _moment(session, args.at)
    if args.delay is not None:
        run_at = in_range(session.store.now() + parse_duration(args.delay))
    changes = commands.edit(
        session.store, wanted_ids(session), priority=_priority(args.priority), run_at=run_at, queue=args.queue
    )
    return tell(session, changes, state_of)


def delete_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.example("queuectl delete 1", "an ended job and its output, for good")


def delete(session: "Session") -> int:
    """Delete ended jobs with their output."""
    return tell(session, commands.delete(session.store, wanted_ids(session)), lambda change: "deleted")


def purge_options(parser: "Parser") -> None:
    """Which ended jobs."""
    states = "completed, cancelled, dead (default: the first two)"
    parser.add_argument("--state", metavar="S,…", default="completed,cancelled", help=states)
    parser.add_argument("--older-than", metavar="D", required=True, help="ended longer ago than this")
    parser.example("queuectl purge --older-than 30d", "delete what ended more than thirty days ago")


def purge(session: "Session") -> int:
    """Delete old ended jobs."""
    states = states_of(session.args.state)
    if not states or states - TERMINAL:
        raise InvalidInput("only ended jobs can be purged", "--state completed, cancelled or dead")
    before = session.store.now() - parse_duration(session.args.older_than)
    count = commands.purge(session.store, Filter(states=states, ended_before=before))
    return told_count(session, "purged", count)


def told_count(session: "Session", word: str, count: int) -> int:
    """One number: how many jobs were deleted, and so on."""
    session.did(f"{word} {count}")
    if session.json:
        session.emit(shapes.document(**{word: count}))
    else:
        session.print(f"{word} {count}")
    return 0


def wanted_ids(session: "Session") -> list[str]:
    """The jobs that the arguments name. Raises NotFound, or InvalidInput when none is named."""
    return queries.resolve(session.store, references(session.args.job))


def tell(session: "Session", changes: Sequence[Change], words: Callable[[Change], str]) -> int:
    """What became of each job; answers the exit code of the first refusal."""
    refused = [change.refused for change in changes if change.refused]
    if count := len(changes) - len(refused):
        session.did(f"{count} job{'' if count == 1 else 's'} changed")
    if session.json:
        document = shapes.document(jobs=[_shape(change) for change in changes])
        if refused:
            document |= {"error": shapes.error(refused[0])["error"]}
        session.emit(document)
    else:
        session.out.writelines(f"{change.id} {words(change)}\n" for change in changes if not change.refused)
    for refusal in refused:
        hint = f" ({refusal.hint})" if refusal.hint else ""
        session.err.write(f"queuectl: {refusal.message}{hint}\n")
    return refused[0].exit_code if refused else 0


def _shape(change: Change) -> dict[str, object]:
    job = change.job
    return {
        "id": change.id,
        "number": job.number if job else None,
        "state": job.state if job else None,
        "refused": change.refused.message if change.refused else None,
    }


def state_of(change: Change) -> str:
    """The state that a job is in after a command."""
    return change.job.state if change.job else ""


def _cancelled(change: Change) -> str:
    if change.job and change.job.state == "processing":
        return "is running; its worker ends it now"
    return "cancelled"


def _selected(session: "Session") -> list[str]:
    """The jobs of a queue, batch or state, once a person (or --yes) has agreed to their number."""
    args = session.args
    if not (args.all or args.queue or args.batch or args.state):
        raise InvalidInput("no job is named", "give ids, or --queue, --batch, --state or --all")
    if args.queue and args.queue not in {queue.name for queue in queries.queues(session.store)}:
        raise NotFound(f"there is no queue {args.queue!r}")
    states = (states_of(args.state) or frozenset(STATES)) - TERMINAL
    if not states:
        raise InvalidInput(f"jobs in state {args.state} have ended", "there is nothing left to cancel")
    ids = queries.open_ids(session.store, Filter(states=states, queue=args.queue, batch=args.batch))
    if not ids:
        session.say("queuectl: no job that has not ended is meant by this")
    _confirm(session, len(ids), "cancel")
    return ids


def _confirm(session: "Session", count: int, verb: str) -> None:
    if session.args.yes or count == 0:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"this would {verb} {count} jobs", "add --yes to do it")
    session.err.write(f"{verb} {count} jobs? [y/N] ")
    session.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput(f"{verb}: not confirmed, nothing was changed")


def _moment(session: "Session", text: str) -> datetime:
    moment = parse_instant(text)
    if moment.tzinfo:
        return moment
    local = in_range(moment.astimezone())
    session.say(f"queuectl: {text} has no zone; taken as local time, that is {format_instant(local)}")
    return local


def _jobs(parser: "Parser", required: bool = True) -> None:
    parser.add_argument("job", nargs="+" if required else "*", metavar="JOB", help=JOBS_HELP)


def _priority(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        value = 10_000
    if not -1000 <= value <= 1000:
        raise InvalidInput(f"--priority: {text!r} is not a whole number from -1000 to 1000")
    return value


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return str(os.getuid())
