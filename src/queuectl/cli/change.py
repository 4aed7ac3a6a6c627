"""Commands that change jobs: cancel, retry, hold, release, edit, delete, purge."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from queuectl.cli.act import confirm, count_down, run
from queuectl.cli.report import Act
from queuectl.cli.selecting import WHERE_HELP, selected, selection_options, states_of, wanted_of
from queuectl.domain.instant import format_instant, in_range
from queuectl.domain.job import TERMINAL
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.domain.query import Filter
from queuectl.domain.where import parse, term
from queuectl.errors import InvalidInput
from queuectl.service.changing import Change
from queuectl.service.operation import Selection
from queuectl.service.times import read_time

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.job import State
    from queuectl.service.matching import Wanted


def cancel_options(parser: "Parser") -> None:
    """Add the arguments of `cancel`: the jobs, or a selection of jobs, and the reason."""
    selection_options(parser, "cancelling")
    parser.add_argument("--queue", "-Q", metavar="Q", help="all of this queue that have not ended")
    parser.add_argument("--batch", metavar="B", help="all of this batch that have not ended")
    parser.add_argument("--state", metavar="S", help="all in this state")
    parser.flag("--all", help="all that have not ended")
    parser.add_argument("--reason", metavar="R", help="a text that is stored with the job")
    parser.example(
        "queuectl cancel @last --reason 'wrong branch'", "one job; if it runs, all its processes are ended"
    )
    parser.example("queuectl cancel --queue default --yes", "all of a queue that have not ended")
    parser.example("queuectl cancel --where 'state:failed attempts:>2' --dry-run", "how many would that be?")
    parser.example("queuectl cancel --where state:failed --background --yes", "let the workers do it")


def cancel(session: "Session") -> int:
    """Cancel jobs: waiting ones never start, and running ones are ended."""
    meant = selected(session, ("state", "queue", "batch"))
    steps = session.queue.cancel(meant, reason=session.args.reason)
    what = Act(
        verb="cancel",
        args={"reason": session.args.reason},
        line=_cancelled,
        kind=_cancelled_kind,
        met=_ended_before,
    )
    return run(session, meant, steps, what)


def retry_options(parser: "Parser") -> None:
    """Add the arguments of `retry`: the jobs, and which other jobs run again."""
    selection_options(parser, "retrying")
    parser.flag("--force", help="also completed jobs")
    parser.flag("--alone", help="without their parents, and without the jobs that wait for them")
    parser.example("queuectl retry @last --force", "once more, with a new retry budget")
    parser.example("queuectl retry --where 'state:dead exit:69' --yes", "all that died with this exit code")


def retry(session: "Session") -> int:
    """Run jobs once more. Jobs that were cancelled because of these jobs wait for them again."""
    return retry_selected(session, selected(session), force=session.args.force)


def requeue_options(parser: "Parser") -> None:
    """Add the arguments of `requeue`: those of `retry`."""
    retry_options(parser)
    parser.set_defaults(force=True)
    parser.examples.clear()
    parser.example("queuectl requeue 1", "the same as: queuectl retry --force 1")


requeue = retry


def retry_selected(session: "Session", meant: Selection, *, force: bool = False) -> int:
    """Retry these jobs; report the result, also for the jobs that wait for them again."""
    steps = session.queue.retry(meant, force=force, alone=session.args.alone)
    args = {"force": force, "alone": session.args.alone}
    return run(session, meant, steps, Act(verb="retry", args=args, line=state_of, kind=retried_kind))


def hold_options(parser: "Parser") -> None:
    """Add the arguments of `hold`: the jobs."""
    selection_options(parser, "holding")
    parser.example("queuectl hold @last", "the job does not start until it is released")
    parser.example("queuectl hold --where 'queue:mail state:pending' --yes", "all that wait in a queue")


def hold(session: "Session") -> int:
    """Keep jobs from starting until they are released."""
    meant = selected(session)
    return run(session, meant, session.queue.hold(meant), Act(verb="hold", line=state_of))


def release_options(parser: "Parser") -> None:
    """Add the arguments of `release`: the jobs, and whether they wait for their parents."""
    selection_options(parser, "releasing")
    parser.flag("--anyway", help="without waiting for their parents")
    parser.example("queuectl release @last", "the job starts when it is due")
    parser.example("queuectl release --where state:held --yes", "all held jobs")


def release(session: "Session") -> int:
    """Release held jobs, so that they start when they are due."""
    meant = selected(session)
    steps = session.queue.release(meant, anyway=session.args.anyway)
    args = {"anyway": session.args.anyway}
    return run(session, meant, steps, Act(verb="release", args=args, line=state_of, kind=_released_kind))


def _released_kind(change: Change) -> str:
    return "released, waiting for their parents" if change.state == "blocked" else "released"


def edit_options(parser: "Parser") -> None:
    """Add the arguments of `edit`: the jobs and the changes."""
    selection_options(parser, "editing")
    parser.add_argument("--priority", "-p", metavar="N", help="-1000 to 1000, higher first")
    parser.add_argument(
        "--at", metavar="T", help="not before this time: 10:30, 2026-11-22T15:00:00Z, @EPOCH or now"
    )
    parser.add_argument("--delay", "--in", metavar="D", help="not before this much time has passed")
    parser.add_argument("--queue", "-Q", metavar="Q", help="another queue")
    parser.example("queuectl edit @last --priority 10", "start earlier; only for jobs that have not started")
    parser.example("queuectl edit --where state:failed --at now --yes", "retry all failed jobs at once")


def edit(session: "Session") -> int:
    """Change the priority, start time or queue of jobs that have not started."""
    args = session.args
    if args.priority is None and args.at is None and args.delay is None and args.queue is None:
        raise InvalidInput("no change is given", "use --priority, --at, --in or --queue")
    if args.at is not None and args.delay is not None:
        raise InvalidInput("--at and --in both set the start time", "give only one of them")
    run_at, meant = _start(session), selected(session)
    priority = _priority(args.priority)
    steps = session.queue.edit(meant, priority=priority, run_at=run_at, queue=args.queue)
    given = {"priority": priority, "run_at": run_at and format_instant(run_at), "queue": args.queue}
    what = Act(
        verb="edit",
        args=given,
        line=_edited,
        kind=lambda change: "changed" if _differences(change) else "unchanged",
        shape=lambda change: {"changes": _differences(change)},
    )
    return run(session, meant, steps, what)


def _start(session: "Session") -> datetime | None:
    """The new start time from --at or --in."""
    if session.args.at is not None:
        return _time(session, session.args.at)
    if session.args.delay is not None:
        return in_range(session.queue.now() + of_option("--delay", parse_duration, session.args.delay))
    return None


def delete_options(parser: "Parser") -> None:
    """Add the arguments of `delete`: the jobs, and the confirmation."""
    selection_options(parser, "deleting")
    parser.example("queuectl delete 1", "an ended job and its output, for good")


def delete(session: "Session") -> int:
    """Delete ended jobs with their output."""
    meant = selected(session)
    what = Act(verb="delete", line=lambda change: "deleted", asks=True)
    return run(session, meant, session.queue.delete(meant), what)


BEHIND_A_SERVER = (
    "run it on a host that reaches the store itself, with the URL of the store: queuectl --store URL"
)


def purge_options(parser: "Parser") -> None:
    """Add the arguments of `purge`: the states, the age, and the confirmation."""
    states = "completed, cancelled, dead (default: the first two, or those of the filter)"
    parser.add_argument("--state", metavar="S,…", help=states)
    parser.add_argument("--older-than", metavar="D", required=True, help="ended longer ago than this")
    to_options(parser)
    parser.flag("--yes", "-y", help="do not ask before deleting many")
    parser.example("queuectl purge --older-than 30d --yes", "delete jobs that ended over thirty days ago")
    parser.example("queuectl purge --older-than 30d --to 2026.jsonl.gz --yes", "write them to a file first")
    parser.example(
        "queuectl purge --older-than 7d --where 'queue:mail cmd:~send' --yes",
        "only those that match a filter",
    )


def purge(session: "Session") -> int:
    """Delete jobs that ended longer ago than --older-than."""
    refuse_to_remote(session)
    args, states = session.args, _purged_states(session)
    if not states or states - TERMINAL:
        raise InvalidInput("only ended jobs can be purged", "--state completed, cancelled or dead")
    before = session.queue.now() - of_option("--older-than", parse_duration, args.older_than)
    if args.where is None:
        return purge_all(session, Filter(states=states, ended_before=before))
    terms = (term("state", *sorted(states)), term("older", format_instant(before)))
    return purge_all(session, wanted_of(session, *terms, names=()))


def _purged_states(session: "Session") -> "frozenset[State]":
    """The states of --state, else those of the filter, else the usual ones."""
    args = session.args
    if args.state is not None:
        return states_of(args.state)
    named = parse(args.where, session.queue.now()).filter.states if args.where else None
    return named or PURGED


PURGED: "frozenset[State]" = frozenset(("completed", "cancelled"))
"""The states of the jobs that a purge deletes if none are named."""


def to_options(parser: "Parser") -> None:
    """Add the options of a purge that select jobs by a filter, and name a file for the deleted jobs."""
    parser.add_argument("--where", metavar="FILTER", help=WHERE_HELP)
    parser.add_argument(
        "--to",
        metavar="FILE",
        help="append the jobs with their output to this file (.jsonl or .jsonl.gz) before",
    )


def refuse_to_remote(session: "Session") -> None:
    """Raise InvalidInput if the jobs of a server are to be written to a file of this host."""
    if session.args.to is not None:
        session.refuse_remote("--to", BEHIND_A_SERVER)


def purge_all(session: "Session", wanted: "Wanted") -> int:
    """Delete all ended jobs that match. Without --yes, first show their number and ask for a confirmation."""
    path, count = session.args.to, None
    steps = session.queue.purge(wanted) if path is None else session.queue.transfer().purge(wanted, path)
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


def _time(session: "Session", text: str) -> datetime:
    time = read_time(text, session.queue.now())
    if time.note:
        session.say(f"queuectl: {time.note}")
    return time.at


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
