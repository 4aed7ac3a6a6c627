"""`queuectl schedule list`, `show`, `history` and `preview`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from queuectl.cli.cells import relative
from queuectl.cli.render import table
from queuectl.cli.schedule import say_workers, wall, zone
from queuectl.domain.instant import format_instant
from queuectl.errors import InvalidInput
from queuectl.service.schedules.preview import preview as instants_of
from queuectl.service.shapes import document
from queuectl.service.shapes import schedules as shapes
from queuectl.service.times import read_time

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.service.schedules.reading import Decided, ScheduleStatus

COLUMNS = ("name", "when", "next", "last", "is")
LESS = ("when", "last")
DECISIONS = 20


def list__options(parser: "Parser") -> None:
    """Add the arguments of `schedule list`."""
    parser.flag("--all", help="also schedules that have ended")
    parser.example("queuectl schedule list", "each with its rule in words, its next and its last run")


def list_(session: "Session") -> int:
    """Print the schedules."""
    found, unreadable = session.queue.schedules().all()
    shown = [each for each in found if session.args.all or not each.ended]
    if session.json:
        session.emit(shapes.schedules(shown, unreadable))
    else:
        now = session.queue.now() if shown else None
        table(session, COLUMNS, [_row(session, each, now) for each in shown if now], LESS)
    for name in unreadable:
        session.say(f"queuectl: schedule {name} cannot be read: it is damaged, or a newer queuectl wrote it")
    for each in shown:
        if each.problem:
            session.say(f"queuectl: schedule {each.schedule.name}: {each.problem}")
    if hidden := len(found) - len(shown):
        session.say(f"queuectl: {hidden} that ended: --all shows {'it' if hidden == 1 else 'them'}")
    if shown:
        say_workers(session)
    return 0


def _row(session: "Session", status: "ScheduleStatus", now: datetime) -> list[str]:
    schedule, last = status.schedule, status.last
    state = "paused" if schedule.paused else "ended" if status.ended else "late" if status.late(now) else "on"
    return [
        schedule.name,
        status.description or schedule.when,
        _at(session, status.next[0] if status.next else None, now),
        f"{_at(session, last.instant, now)} {last.state or 'deleted'}" if last else "",
        state,
    ]


def _at(session: "Session", at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    return relative(at, now) if session.on_terminal else format_instant(at)


def show_options(parser: "Parser") -> None:
    """Add the arguments of `schedule show`: the name, and how many instants."""
    parser.add_argument("schedule", metavar="NAME", help="the schedule")
    parser.add_argument("--next", metavar="N", default="5", help="so many next instants (5)")
    parser.example("queuectl schedule show backup", "rule, policies, job and next instants")


def show(session: "Session") -> int:
    """Print one schedule."""
    status = session.queue.schedules().show(session.args.schedule, _count("--next", session.args.next))
    if session.json:
        session.emit(document(schedule=shapes.schedule(status)))
        return 0
    from queuectl.domain.schedule_file import FileEntry, write_table

    schedule = status.schedule
    entry = FileEntry(definition=schedule, paused=schedule.paused is not None)
    session.out.write(write_table(schedule.name, entry))
    session.print("")
    session.print(f"# {status.description or status.problem}")
    for at in status.next or ():
        session.print(f"# next {wall(at, schedule.timezone)}")
    if schedule.paused:
        pause = schedule.paused
        because = f": {pause.reason}" if pause.reason else ""
        session.print(f"# paused {wall(pause.at, schedule.timezone)} by {pause.by}{because}")
    if status.last:
        session.print(
            f"# last {wall(status.last.instant, schedule.timezone)}: {status.last.state or 'deleted'}"
        )
    for note in status.notes:
        session.say(f"queuectl: {note}")
    return 0


def history_options(parser: "Parser") -> None:
    """Add the arguments of `schedule history`: the name, and how many decisions."""
    parser.add_argument("schedule", metavar="NAME", help="the schedule")
    parser.add_argument(
        "--limit", metavar="N", default=str(DECISIONS), help=f"so many decisions ({DECISIONS})"
    )
    parser.example("queuectl schedule history backup", "the last decisions, the newest first")


def history(session: "Session") -> int:
    """Print the newest decisions of a schedule."""
    limit = _count("--limit", session.args.limit)
    found = session.queue.schedules().history(session.args.schedule, limit)
    if session.json:
        session.emit(shapes.history(found))
        return 0
    table(session, ("instant", "decision", "count", "job", "state"), [_decided(each) for each in found])
    return 0


def _decided(each: "Decided") -> list[str]:
    decision = each.decision
    return [
        format_instant(decision.instant),
        f"{decision.decision}: {decision.reason}" if decision.reason else decision.decision,
        str(decision.count),
        decision.job or "",
        each.state or "",
    ]


def preview_options(parser: "Parser") -> None:
    """Add the arguments of `schedule preview`: the rule and the range."""
    parser.add_argument("when", metavar="WHEN", help="the rule")
    parser.add_argument(
        "--tz", dest="timezone", metavar="Z", help="the time zone (default: that of this host)"
    )
    parser.add_argument("--from", dest="begin", metavar="T", help="from this time on (default: now)")
    parser.add_argument("--next", metavar="N", help="so many instants (5)")
    parser.add_argument("--to", metavar="T", help="all instants until this time")
    parser.example("queuectl schedule preview '30 2 * * *' --tz Europe/Berlin", "the next five")
    parser.example(
        "queuectl schedule preview '30 2 * * *' --tz Europe/Berlin --from 2026-03-28T00:00:00Z --next 3",
        "around the night in which the clocks go forward",
    )


def preview(session: "Session") -> int:
    """Print the instants of a rule. Opens no store."""
    args, now = session.args, datetime.now(UTC)
    if args.next and args.to:
        raise InvalidInput("--next and --to say the same thing twice", "give one of them")
    timezone = zone(session, args.timezone)
    found = instants_of(
        args.when,
        timezone,
        _time("--from", args.begin, now) if args.begin else now,
        inclusive=bool(args.begin),
        count=_count("--next", args.next or "5"),
        end=_time("--to", args.to, now) if args.to else None,
    )
    if session.json:
        session.emit(shapes.preview(found))
        return 0
    session.say(f"queuectl: {found.description}")
    for at in found.instants:
        local = wall(at, timezone)
        session.print(f"{format_instant(at)}\t{local}")
    for note in found.notes:
        session.say(f"queuectl: {note}")
    return 0


def _time(flag: str, text: str, now: datetime) -> datetime:
    try:
        return read_time(text, now).at
    except InvalidInput as error:
        raise InvalidInput(f"{flag}: {error.message}", error.hint) from error


def _count(flag: str, text: str) -> int:
    if not (text.isdecimal() and 0 < len(text) < 6 and int(text)):
        raise InvalidInput(f"{flag}: {text!r} is not a count", "a whole number from 1")
    return int(text)
