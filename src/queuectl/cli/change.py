"""Commands that change jobs: cancel, retry, hold, release, edit, delete, purge."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from queuectl.cli.act import act, confirm, count_down
from queuectl.cli.jobs import states_of
from queuectl.cli.references import JOBS_HELP, references
from queuectl.cli.report import Act
from queuectl.domain.instant import format_instant, in_range
from queuectl.domain.job import TERMINAL
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput, NotFound
from queuectl.service.changing import Change
from queuectl.service.operation import Operation
from queuectl.service.times import read_time

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def cancel_options(parser: "Parser") -> None:
    """Add the arguments of `cancel`: the jobs, or a selection of jobs, and the reason."""
    _jobs(parser, required=False)
    parser.add_argument("--queue", "-Q", metavar="Q", help="all of this queue that have not ended")
    parser.add_argument("--batch", metavar="B", help="all of this batch that have not ended")
    parser.add_argument("--state", metavar="S", help="all in this state")
    parser.flag("--all", help="all that have not ended")
    parser.add_argument("--reason", metavar="R", help="a text that is stored with the job")
    _yes(parser, "cancelling")
    parser.example(
        "queuectl cancel @last --reason 'wrong branch'", "one job; if it runs, all its processes are ended"
    )
    parser.example("queuectl cancel --queue default --yes", "all of a queue that have not ended")


def cancel(session: "Session") -> int:
    """Cancel jobs: waiting ones never start, and running ones are ended."""
    args = session.args
    if args.job and (args.all or args.queue or args.batch or args.state):
        raise InvalidInput("both jobs and a selection are given", "give only one of them")
    meant = references(args.job) if args.job else _selected(session)
    steps = session.queue.cancel(meant, reason=args.reason)
    count = steps.count()
    if not args.job and not count:
        session.say("queuectl: no job that has not ended matches")
    if not args.job:
        confirm(session, "cancel", count)
    return act(session, _cancelling(steps, count, by_filter=not args.job))


def _cancelling(steps: Operation[Sequence[Change]], count: int, *, by_filter: bool) -> Act:
    return Act(
        verb="cancel",
        steps=steps,
        count=count,
        by_filter=by_filter,
        line=_cancelled,
        kind=_cancelled_kind,
        met=_ended_before,
    )


def retry_options(parser: "Parser") -> None:
    """Add the arguments of `retry`: the jobs, and which other jobs run again."""
    _jobs(parser)
    parser.flag("--force", help="also completed jobs")
    parser.flag("--alone", help="without their parents, and without the jobs that wait for them")
    parser.example("queuectl retry @last --force", "once more, with a new retry budget")


def retry(session: "Session") -> int:
    """Run jobs once more. Jobs that were cancelled because of these jobs wait for them again."""
    return retry_named(session, references(session.args.job), force=session.args.force)


def retry_named(session: "Session", named: Sequence[str], *, force: bool = False) -> int:
    """Retry these jobs; report the result, also for the jobs that wait for them again."""
    steps = session.queue.retry(named, force=force, alone=session.args.alone)
    return act(session, Act(verb="retry", steps=steps, count=steps.count(), line=state_of, kind=retried_kind))


def hold_options(parser: "Parser") -> None:
    """Add the arguments of `hold`: the jobs."""
    _jobs(parser)
    parser.example("queuectl hold @last", "the job does not start until it is released")


def hold(session: "Session") -> int:
    """Keep jobs from starting until they are released."""
    steps = session.queue.hold(references(session.args.job))
    return act(session, Act(verb="hold", steps=steps, count=steps.count(), line=state_of))


def release_options(parser: "Parser") -> None:
    """Add the arguments of `release`: the jobs, and whether they wait for their parents."""
    _jobs(parser)
    parser.flag("--anyway", help="without waiting for their parents")
    parser.example("queuectl release @last", "the job starts when it is due")


def release(session: "Session") -> int:
    """Release held jobs, so that they start when they are due."""
    steps = session.queue.release(references(session.args.job), anyway=session.args.anyway)
    return act(
        session, Act(verb="release", steps=steps, count=steps.count(), line=state_of, kind=_released_kind)
    )


def _released_kind(change: Change) -> str:
    return "released, waiting for their parents" if change.state == "blocked" else "released"


def edit_options(parser: "Parser") -> None:
    """Add the arguments of `edit`: the jobs and the changes."""
    _jobs(parser)
    parser.add_argument("--priority", "-p", metavar="N", help="-1000 to 1000, higher first")
    parser.add_argument(
        "--at", metavar="T", help="not before this time: 10:30, 2026-11-22T15:00:00Z, @EPOCH or now"
    )
    parser.add_argument("--delay", "--in", metavar="D", help="not before this much time has passed")
    parser.add_argument("--queue", "-Q", metavar="Q", help="another queue")
    parser.example("queuectl edit @last --priority 10", "start earlier; only for jobs that have not started")


def edit(session: "Session") -> int:
    """Change the priority, start time or queue of jobs that have not started."""
    args = session.args
    if args.priority is None and args.at is None and args.delay is None and args.queue is None:
        raise InvalidInput("no change is given", "use --priority, --at, --in or --queue")
    if args.at is not None and args.delay is not None:
        raise InvalidInput("--at and --in both set the start time", "give only one of them")
    run_at = _start(session)
    steps = session.queue.edit(
        references(args.job), priority=_priority(args.priority), run_at=run_at, queue=args.queue
    )
    what = Act(
        verb="edit",
        steps=steps,
        count=steps.count(),
        line=_edited,
        kind=lambda change: "changed" if _differences(change) else "unchanged",
        shape=lambda change: {"changes": _differences(change)},
    )
    return act(session, what)


def _start(session: "Session") -> datetime | None:
    """The new start time from --at or --in."""
    if session.args.at is not None:
        return _time(session, session.args.at)
    if session.args.delay is not None:
        return in_range(session.queue.now() + of_option("--delay", parse_duration, session.args.delay))
    return None


def delete_options(parser: "Parser") -> None:
    """Add the arguments of `delete`: the jobs, and the confirmation."""
    _jobs(parser)
    _yes(parser, "deleting")
    parser.example("queuectl delete 1", "an ended job and its output, for good")


def delete(session: "Session") -> int:
    """Delete ended jobs with their output."""
    steps = session.queue.delete(references(session.args.job))
    count = steps.count()
    if count > 1:
        confirm(session, "delete", count)
    return act(session, Act(verb="delete", steps=steps, count=count, line=lambda change: "deleted"))


def purge_options(parser: "Parser") -> None:
    """Add the arguments of `purge`: the states, the age, and the confirmation."""
    states = "completed, cancelled, dead (default: the first two)"
    parser.add_argument("--state", metavar="S,…", default="completed,cancelled", help=states)
    parser.add_argument("--older-than", metavar="D", required=True, help="ended longer ago than this")
    _yes(parser, "deleting")
    parser.example("queuectl purge --older-than 30d --yes", "delete jobs that ended over thirty days ago")


def purge(session: "Session") -> int:
    """Delete jobs that ended longer ago than --older-than."""
    states = states_of(session.args.state)
    if not states or states - TERMINAL:
        raise InvalidInput("only ended jobs can be purged", "--state completed, cancelled or dead")
    before = session.queue.now() - of_option("--older-than", parse_duration, session.args.older_than)
    return purge_all(session, Filter(states=states, ended_before=before))


def purge_all(session: "Session", wanted: Filter) -> int:
    """Delete all ended jobs that match. Without --yes, first show their number and ask for a confirmation."""
    steps, count = session.queue.purge(wanted), None
    if not session.args.yes:  # with --yes the count is not needed, and to count means to read every job
        count = steps.count()
        confirm(session, "delete", count)
    return count_down(session, "purge", "purged", count, steps)


def state_of(change: Change) -> str:
    """The state of a job after the command."""
    return change.job.state if change.job else ""


def retried_kind(change: Change) -> str:
    """The result of a retry, for the summary."""
    if change.revived:
        return "waiting for them again"
    return "to run again, waiting for their parents" if change.state == "blocked" else "to run again"


def _cancelled(change: Change) -> str:
    return "is running; its worker ends it now" if change.state == "processing" else "cancelled"


def _cancelled_kind(change: Change) -> str:
    if change.state == "processing":
        return "running, ended by their workers now"
    return "cancelled" if change.changed else "had already ended"


def _ended_before(change: Change) -> str | None:
    return "had already ended" if change.job and change.job.ended else None


def _differences(change: Change) -> dict[str, object]:
    """The fields that an edit changed, with the old and the new value."""
    old, new = change.before, change.job
    if old is None or new is None:
        return {}
    pairs = {
        "priority": (old.priority, new.priority),
        "run_at": (format_instant(old.run_at), format_instant(new.run_at)),
        "queue": (old.queue, new.queue),
    }
    return {name: {"from": was, "to": now} for name, (was, now) in pairs.items() if was != now}


def _edited(change: Change) -> str:
    changes: dict[str, Any] = _differences(change)
    words = [f"{_NAMES[name]} {each['from']} → {each['to']}" for name, each in changes.items()]
    return f"{change.state}: {', '.join(words) or 'nothing changed'}"


_NAMES = {"priority": "priority", "run_at": "start", "queue": "queue"}


def _selected(session: "Session") -> Filter:
    """The jobs of a queue, batch or state. Raises NotFound if the queue does not exist."""
    args = session.args
    if not (args.all or args.queue or args.batch or args.state):
        raise InvalidInput("no job is given", "give ids, or --queue, --batch, --state or --all")
    if args.queue and args.queue not in {queue.name for queue in session.queue.queues()}:
        raise NotFound(f"there is no queue {args.queue!r}")
    return Filter(states=states_of(args.state), queue=args.queue, batch=args.batch)


def _time(session: "Session", text: str) -> datetime:
    time = read_time(text, session.queue.now())
    if time.note:
        session.say(f"queuectl: {time.note}")
    return time.at


def _jobs(parser: "Parser", required: bool = True) -> None:
    parser.add_argument("job", nargs="+" if required else "*", metavar="JOB", help=JOBS_HELP)


def _yes(parser: "Parser", what: str) -> None:
    parser.flag("--yes", "-y", help=f"do not ask before {what} many")


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
