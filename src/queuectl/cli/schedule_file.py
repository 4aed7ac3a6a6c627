"""`queuectl schedule apply`, `diff`, `export`, and `import crontab`."""

import os
from typing import TYPE_CHECKING, Any

from queuectl.cli import texts
from queuectl.cli.schedule import say_workers, zone
from queuectl.domain import schedule_file
from queuectl.errors import InvalidInput
from queuectl.service.shapes import document
from queuectl.service.shapes import schedules as shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.schedule_difference import Difference

LARGEST = 16 * 1024 * 1024


def apply_options(parser: "Parser") -> None:
    """Add the arguments of `schedule apply`: the file."""
    parser.add_argument("file", metavar="FILE", help="a file of schedules, TOML or JSON; - reads stdin")
    parser.flag("--dry-run", help="print what would change, and change nothing")
    parser.flag("--prune", help="remove schedules of the file's owner that the file does not contain")
    parser.example(
        "queuectl schedule apply schedules.toml --prune", "the stored schedules are those of the file"
    )


def apply(session: "Session") -> int:
    """Make the stored schedules equal to the file, and print what changed."""
    args, all_of = session.args, session.queue.schedules()
    given = _document(session)
    timezone = zone(session, None)
    if args.dry_run:
        return _print(session, all_of.compare(given, timezone=timezone, prune=args.prune), dry_run=True)
    found = all_of.apply(given, timezone=timezone, prune=args.prune)
    if not found.empty:
        session.did("the file is applied")
    _print(session, found, dry_run=False)
    say_workers(session)
    return 0


def diff_options(parser: "Parser") -> None:
    """Add the arguments of `schedule diff`: the file."""
    parser.add_argument("file", metavar="FILE", help="a file of schedules; - reads stdin")
    parser.flag("--prune", help="also schedules that an apply with --prune would remove")
    parser.example(
        "queuectl schedule diff schedules.toml", "exit 0: the same; 1: an apply would change something"
    )


def diff(session: "Session") -> int:
    """Print what an apply would change. Exit 1 if it would change something."""
    given = _document(session)
    timezone = zone(session, None)
    found = session.queue.schedules().compare(given, timezone=timezone, prune=session.args.prune)
    _print(session, found, dry_run=True)
    return 0 if found.empty else 1


def export_options(parser: "Parser") -> None:
    """Add the arguments of `schedule export`: the names."""
    parser.add_argument("schedules", metavar="NAME", nargs="*", help="schedules (default: all)")
    parser.example("queuectl schedule export > schedules.toml", "a file for `schedule apply`")


def export(session: "Session") -> int:
    """Print a file of schedules."""
    found = session.queue.schedules().named(session.args.schedules)
    if session.json:
        session.emit(shapes.definitions(found))
    else:
        session.out.write(schedule_file.export(found))
    return 0


def import__options(parser: "Parser") -> None:
    """Add the arguments of `schedule import`: the kind and the file."""
    parser.usage = "queuectl schedule import crontab [options] [FILE | -]"
    parser.add_argument("kind", metavar="crontab", help="the only kind")
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="a crontab (default: stdin)")
    parser.flag("--system", help="the system form, with a column of users; only your own lines are accepted")
    parser.add_argument(
        "--tz", dest="timezone", metavar="Z", help="the zone of cron (default: that of this host)"
    )
    parser.example("queuectl schedule import crontab crontab.txt > schedules.toml", "then: schedule apply")


def import_(session: "Session") -> int:
    """Print a crontab as a file of schedules. Opens no store."""
    from queuectl.domain.crontab import CronLine, read_crontab, write_file

    args = session.args
    if args.kind != "crontab":
        raise InvalidInput(f"{args.kind!r} cannot be imported", "queuectl schedule import crontab -")
    home = os.path.expanduser("~")
    user = _user() if args.system else None
    lines = read_crontab(_text(args.file), timezone=zone(session, args.timezone), home=home, user=user)
    if session.json:
        tables = {
            line.name: {
                "when": line.entry.definition.when,
                "timezone": line.entry.definition.timezone,
                "job": line.entry.definition.job,
            }
            for line in lines
            if isinstance(line, CronLine)
        }
        session.emit(document(schedule=tables))
    else:
        session.out.write(write_file(lines))
    return 0


def _user() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError) as error:
        raise InvalidInput("your user id has no name", "leave out --system") from error


def _document(session: "Session") -> dict[str, Any]:
    """The content of the file. A file that begins with { is JSON."""
    text = _text(session.args.file)
    if not texts.begins_json(text):
        return schedule_file.parse_toml(text)
    import msgspec

    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the file is not JSON: {error}") from error
    return {key: value for key, value in found.items() if key != "schema"}


def _text(path: str) -> str:
    try:
        return texts.read(path, "", limit=LARGEST).decode().removeprefix(texts.MARK)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 (byte {error.start})") from error


def _print(session: "Session", found: "Difference", *, dry_run: bool) -> int:
    if session.json:
        session.emit(shapes.difference(found, dry_run=dry_run))
    else:
        session.out.writelines(f"{line}\n" for line in found.lines())
    return 0
