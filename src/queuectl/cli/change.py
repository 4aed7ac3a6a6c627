"""Commands that change jobs: cancel, retry, hold, release, edit, delete, purge."""

import getpass
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from queuectl.cli.jobs import states_of
from queuectl.cli.many import Act, act, confirm, count_down
from queuectl.cli.references import JOBS_HELP, references
from queuectl.domain.instant import format_instant, in_range
from queuectl.domain.job import STATES, TERMINAL
from queuectl.domain.quantity import parse_duration
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import commands, queries
from queuectl.service.changing import Change
from queuectl.service.moments import read_moment

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
    _yes(parser, "cancelling")
    parser.example(
        "queuectl cancel @last --reason 'wrong branch'", "one job; a running one is ended, tree and all"
    )
    parser.example("queuectl cancel --queue default --yes", "all of a queue that have not ended")


def cancel(session: "Session") -> int:
    """Never start, or end, these jobs."""
    args = session.args
    if args.job and (args.all or args.queue or args.batch or args.state):
        raise InvalidInput("jobs are named and a selection is given", "give one of them")
    who = f"{_user()}@{os.uname().nodename}"

    def end(ids: Sequence[str]) -> list[Change]:
        return commands.cancel(session.store, ids, by=who, reason=args.reason)

    if args.job:
        return act(session, named(session, "cancel", end, _cancelled, kind=_cancelled_kind))
    wanted, count = _selected(session)
    steps = (end(ids) for ids in commands.select(session.store, wanted))
    what = Act(
        verb="cancel",
        steps=steps,
        count=count,
        by_filter=True,
        line=_cancelled,
        kind=_cancelled_kind,
        met=_ended_before,
    )
    return act(session, what)


def retry_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.flag("--force", help="completed ones too")
    parser.flag("--alone", help="without their parents, and without the jobs that wait for them")
    parser.example("queuectl retry @last --force", "once more, with a new retry budget")


def retry(session: "Session") -> int:
    """Run these once more, behind their parents; the jobs that they had cancelled wait for them again."""
    return retry_named(session, wanted_ids(session), force=session.args.force)


def retry_named(session: "Session", ids: list[str], *, force: bool = False) -> int:
    """Retry these jobs, and tell what became of them and of the jobs that wait for them again."""
    steps = commands.retry_in_steps(session.store, ids, force=force, alone=session.args.alone)
    return act(session, Act(verb="retry", steps=steps, count=len(ids), line=state_of, kind=retried_kind))


def hold_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.example("queuectl hold @last", "not to start until released")


def hold(session: "Session") -> int:
    """Keep these from starting."""
    return act(session, named(session, "hold", lambda ids: commands.hold(session.store, ids), state_of))


def release_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    parser.flag("--anyway", help="without waiting for their parents")
    parser.example("queuectl release @last", "may start when due")


def release(session: "Session") -> int:
    """Let held jobs start."""
    anyway = session.args.anyway
    what = named(
        session,
        "release",
        lambda ids: commands.release(session.store, ids, anyway=anyway),
        state_of,
        kind=lambda change: "released, behind their parents" if change.state == "blocked" else "released",
    )
    return act(session, what)


def edit_options(parser: "Parser") -> None:
    """Which jobs, and what changes."""
    _jobs(parser)
    parser.add_argument("--priority", "-p", metavar="N", help="-1000 to 1000, higher first")
    parser.add_argument(
        "--at", metavar="T", help="not before this time: 10:30, 2026-11-22T15:00:00Z, @EPOCH or now"
    )
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
    priority = _priority(args.priority)

    def write(ids: Sequence[str]) -> list[Change]:
        return commands.edit(session.store, ids, priority=priority, run_at=run_at, queue=args.queue)

    what = named(
        session,
        "edit",
        write,
        _edited,
        kind=lambda change: "changed" if _differences(change) else "unchanged",
        shape=lambda change: {"changes": _differences(change)},
    )
    return act(session, what)


def delete_options(parser: "Parser") -> None:
    """Which jobs."""
    _jobs(parser)
    _yes(parser, "deleting")
    parser.example("queuectl delete 1", "an ended job and its output, for good")


def delete(session: "Session") -> int:
    """Delete ended jobs with their output."""
    what = named(session, "delete", lambda ids: commands.delete(session.store, ids), lambda change: "deleted")
    if what.count > 1:
        confirm(session, "delete", what.count)
    return act(session, what)


def purge_options(parser: "Parser") -> None:
    """Which ended jobs."""
    states = "completed, cancelled, dead (default: the first two)"
    parser.add_argument("--state", metavar="S,…", default="completed,cancelled", help=states)
    parser.add_argument("--older-than", metavar="D", required=True, help="ended longer ago than this")
    _yes(parser, "deleting")
    parser.example("queuectl purge --older-than 30d --yes", "delete what ended more than thirty days ago")


def purge(session: "Session") -> int:
    """Delete old ended jobs."""
    states = states_of(session.args.state)
    if not states or states - TERMINAL:
        raise InvalidInput("only ended jobs can be purged", "--state completed, cancelled or dead")
    before = session.store.now() - parse_duration(session.args.older_than)
    return purge_all(session, Filter(states=states, ended_before=before))


def purge_all(session: "Session", wanted: Filter) -> int:
    """Delete all ended jobs that match, once a person (or --yes) has agreed to their number."""
    count = None
    if not session.args.yes:  # else nobody asks, and counting would look at each of them
        count = session.store.counts(wanted).total()
        confirm(session, "delete", count)
    return count_down(session, "purge", "purged", count, commands.purge_in_steps(session.store, wanted))


def named(
    session: "Session",
    verb: str,
    do: Callable[[Sequence[str]], list[Change]],
    line: Callable[[Change], str],
    **words: Any,
) -> Act:
    """What is done to the jobs that the arguments name. Raises NotFound, or InvalidInput when none is named."""
    ids = wanted_ids(session)
    steps = (do(step) for step in commands.in_steps(ids))
    return Act(verb=verb, steps=steps, count=len(ids), line=line, **words)


def wanted_ids(session: "Session") -> list[str]:
    """The jobs that the arguments name. Raises NotFound, or InvalidInput when none is named."""
    return queries.resolve(session.store, references(session.args.job))


def state_of(change: Change) -> str:
    """The state that a job is in after a command."""
    return change.job.state if change.job else ""


def retried_kind(change: Change) -> str:
    """What a retry has done, for the summary."""
    if change.revived:
        return "brought back behind them"
    return "to run again, behind their parents" if change.state == "blocked" else "to run again"


def _cancelled(change: Change) -> str:
    return "is running; its worker ends it now" if change.state == "processing" else "cancelled"


def _cancelled_kind(change: Change) -> str:
    if change.state == "processing":
        return "running, ended by their workers now"
    return "cancelled" if change.changed else "had already ended"


def _ended_before(change: Change) -> str | None:
    return "had already ended" if change.job and change.job.ended else None


def _differences(change: Change) -> dict[str, object]:
    """What an edit changed, from what to what."""
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


def _selected(session: "Session") -> tuple[Filter, int]:
    """The jobs of a queue, batch or state, once a person (or --yes) has agreed to their number."""
    args = session.args
    if not (args.all or args.queue or args.batch or args.state):
        raise InvalidInput("no job is named", "give ids, or --queue, --batch, --state or --all")
    if args.queue and args.queue not in {queue.name for queue in queries.queues(session.store)}:
        raise NotFound(f"there is no queue {args.queue!r}")
    states = (states_of(args.state) or frozenset(STATES)) - TERMINAL
    if not states:
        raise InvalidInput(f"jobs in state {args.state} have ended", "there is nothing left to cancel")
    wanted = Filter(states=states, queue=args.queue, batch=args.batch)
    count = session.store.counts(wanted).total()
    if not count:
        session.say("queuectl: no job that has not ended is meant by this")
    confirm(session, "cancel", count)
    return wanted, count


def _moment(session: "Session", text: str) -> datetime:
    meant = read_moment(text, session.store.now())
    if meant.note:
        session.say(f"queuectl: {meant.note}")
    return meant.moment


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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return str(os.getuid())
