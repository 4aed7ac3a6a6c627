"""`queuectl schedule add` and `edit`, and what the commands of schedules share."""

from typing import TYPE_CHECKING, Any

from queuectl.cli import texts
from queuectl.cli.enqueue import job_options, request_of, template
from queuectl.domain.schedule_definition import OF_THE_SCHEDULE
from queuectl.errors import InvalidInput
from queuectl.service.schedules.local_zone import local_zone
from queuectl.service.shapes import document
from queuectl.service.shapes import schedules as shapes

if TYPE_CHECKING:
    from datetime import datetime

    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.schedule import Schedule
    from queuectl.service.schedules.reading import ScheduleStatus

WITHOUT = OF_THE_SCHEDULE | {"jitter", "after_failure"}
"""Fields of a job that the options of a schedule do not set: the schedule sets them, or the option is its own."""

_FIELDS = (
    ("--tz", "timezone", "Z", "the time zone: Europe/Berlin (default: that of this host)"),
    ("--overlap", "overlap", "P", "while a job of it has not ended: skip (default), queue, replace or allow"),
    ("--catchup", "catchup", "P", "of missed instants run the last (default), all, or none (skip)"),
    ("--catchup-window", "catchup_window", "D", "missed instants run only if they are this young (1d)"),
    ("--jitter", "jitter", "D", "start up to this much later, spread over the schedules"),
    ("--start", "start", "T", "nothing before this time; @every counts from it"),
    ("--end", "end", "T", "nothing after this time"),
    ("--not-on", "not_on", "DATES", "not on these dates: 2026-12-24,2026-12-25, or @FILE with one a line"),
)


def _options(parser: "Parser") -> None:
    for flag, name, metavar, help in _FIELDS:
        parser.add_argument(flag, dest=name, metavar=metavar, help=help)
    job_options(parser, without=WITHOUT)


def add_options(parser: "Parser") -> None:
    """Add the arguments of `schedule add`: the name, the rule, the policies and the job."""
    parser.no_dashes = parser.intermixed = True
    parser.usage = "queuectl schedule add [options] NAME 'WHEN' 'CMD' | NAME 'WHEN' -- PROG ARG…"
    parser.add_argument("schedule", metavar="NAME", help="letters, digits and . _ -, at most 64")
    parser.add_argument(
        "when", metavar="WHEN", help="'30 2 * * *', six fields with the seconds first, @daily, @every 10m"
    )
    parser.add_argument("command", nargs="*", metavar="CMD", help="a shell command, or a JSON job")
    parser.flag("--paused", help="add it paused")
    _options(parser)
    parser.example(
        "queuectl schedule add backup '30 2 * * *' 'make backup'", "every night at 02:30 local time"
    )
    parser.example(
        "queuectl schedule add ping '@every 10m' --overlap skip --timeout 1m -- true", "every ten minutes"
    )


def add(session: "Session") -> int:
    """Store the schedule, and print its name."""
    args = session.args
    if not (args.command or args.program or args.script):
        raise InvalidInput(
            "no command is given", "for example: queuectl schedule add backup @daily 'make backup'"
        )
    given = {"when": args.when, "job": _job(session)} | _given(session)
    added = session.queue.schedules().add(
        args.schedule, given, timezone=zone(session, args.timezone), paused=args.paused
    )
    session.did(f"schedule {args.schedule} is stored")
    if added.existing:
        session.say(f"queuectl: schedule {args.schedule} already exists with this content")
    return _tell(session, added.schedule, existing=added.existing)


def edit_options(parser: "Parser") -> None:
    """Add the arguments of `schedule edit`: the name, and what changes."""
    parser.no_dashes = parser.intermixed = True
    parser.usage = "queuectl schedule edit [options] NAME ['CMD' | -- PROG ARG…]"
    parser.add_argument("schedule", metavar="NAME", help="the schedule")
    parser.add_argument("command", nargs="*", metavar="CMD", help="another command")
    parser.add_argument("--when", metavar="W", help="another rule")
    _options(parser)
    parser.example(
        "queuectl schedule edit backup --when '0 3 * * *' --overlap queue", "another rule and policy"
    )
    parser.example("queuectl schedule edit backup --timeout 2h", "another time limit for its jobs")


def edit(session: "Session") -> int:
    """Change the given fields; the others stay."""
    args = session.args
    job = _job(session) if args.command or args.program or args.script else template(session)
    given = _given(session) | ({"when": args.when} if args.when else {})
    if not (job or given):
        raise InvalidInput("nothing to change is given", "for example: --when '0 3 * * *'")
    if args.timezone:
        given["timezone"] = args.timezone
    changed = session.queue.schedules().edit(args.schedule, given, job)
    session.did(f"schedule {args.schedule} is changed")
    return _tell(session, changed)


def _job(session: "Session") -> dict[str, Any]:
    """The template of this call, without fields that are not given."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(request_of(session))
    return {key: value for key, value in found.items() if value is not None}


def _given(session: "Session") -> dict[str, Any]:
    """The fields of the schedule that options set."""
    found = {name: getattr(session.args, name) for _, name, _, _ in _FIELDS}
    if (dates := found["not_on"]) and dates.startswith("@"):
        found["not_on"] = texts.read_text(dates[1:], "--not-on")
    return {name: value for name, value in found.items() if value is not None}


def zone(session: "Session", given: str | None) -> str:
    """The time zone of a rule: the given one, or that of this host. An unknown zone of the host is reported."""
    if given:
        return given
    found = local_zone()
    if found is None:
        session.say("queuectl: the time zone of this host is unknown; UTC is used (--tz names another)")
    return found or "UTC"


def _tell(session: "Session", changed: "Schedule", *, existing: bool | None = None) -> int:
    """Print the schedule: its name on stdout, its next run and what to know about it on stderr."""
    status = session.queue.schedules().show(changed.name)
    if session.json:
        shown = {} if existing is None else {"existing": existing}
        session.emit(document(schedule=shapes.schedule(status), **shown))
    else:
        session.print(changed.name)
    say_next(session, status)
    for note in status.notes:
        session.say(f"queuectl: {note}")
    say_workers(session)
    return 0


def say_next(session: "Session", status: "ScheduleStatus") -> None:
    """Report the rule in words, and the next run in the time of its zone."""
    schedule = status.schedule
    if schedule.paused:
        session.say(f"queuectl: {status.description}; paused, so nothing fires")
    elif status.next:
        session.say(f"queuectl: {status.description}; next: {wall(status.next[0], schedule.timezone)}")
    else:
        session.say(f"queuectl: {status.description}; it has no further instant")


def say_workers(session: "Session") -> None:
    """Report that nothing will fire if no worker lives."""
    if not any(item.state in ("running", "paused") for item in session.queue.workers()):
        session.say("queuectl: no worker lives, so nothing will fire; start one: queuectl worker start")


def wall(moment: "datetime", timezone: str) -> str:
    """A moment as a clock in a time zone shows it."""
    from queuectl.domain.zone import zone_named

    try:
        there = moment.astimezone(zone_named(timezone))
    except InvalidInput:
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return f"{there:%a %Y-%m-%d %H:%M:%S} {timezone}"
