"""`queuectl hook add`, `list`, `show` and `apply`."""

from typing import TYPE_CHECKING, Any

from queuectl.cli import texts
from queuectl.cli.enqueue import job_options, request_of
from queuectl.cli.render import table
from queuectl.domain.hook import QUEUE
from queuectl.domain.instant import format_instant
from queuectl.errors import InvalidInput
from queuectl.service.hooks.definition import OF_THE_HOOK, fields_shown
from queuectl.service.shapes import document
from queuectl.service.shapes import hooks as shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.hook import Hook
    from queuectl.service.hooks.reading import HookStatus

COLUMNS = ("name", "on", "does", "matched", "delivered", "is")
LESS = ("delivered", "does")
LARGEST = 16 * 1024 * 1024
_OF_A_REQUEST = (
    ("--secret", "secret", "REF", "sign it with this key: env:NAME or file:/PATH on the worker"),
    ("--header", "headers", "H:V", "a further header; V may be env:NAME or file:/PATH"),
    ("--proxy", "proxy", "URL", "an HTTP proxy; the proxy variables are ignored"),
)


def add_options(parser: "Parser") -> None:
    """Add the arguments of `hook add`: the name, the events, and the job or the URL."""
    parser.no_dashes = parser.intermixed = True
    parser.usage = "queuectl hook add [options] NAME --on E,… 'CMD' | … -- PROG ARG… | … --url URL"
    parser.add_argument("hook", metavar="NAME", help="letters, digits and _ -, at most 50")
    parser.add_argument("command", nargs="*", metavar="CMD", help="a shell command, or a JSON job")
    parser.add_argument("--on", metavar="E,…", help="the events: dead,failed (queuectl events lists them)")
    parser.add_argument("--where", metavar="FILTER", help="only of jobs that match: 'queue:mail tag:urgent'")
    parser.add_argument(
        "--url", metavar="URL", help="send the event there, with POST; or env:NAME, file:/PATH"
    )
    for flag, name, metavar, help in _OF_A_REQUEST:
        action = "append" if name == "headers" else "store"
        parser.add_argument(flag, dest=name, metavar=metavar, action=action, help=help)
    job_options(parser, without=OF_THE_HOOK - {"stdin"})
    parser.example("queuectl hook add note --on dead 'cat >> dead.jsonl'", "the event is on stdin, as JSON")
    parser.example(
        "queuectl hook add ops --on dead,failed --where queue:mail --url https://ops.example.org/hook --secret env:OPS",
        "a signed request",
    )


def add(session: "Session") -> int:
    """Store the hook, and print its name."""
    added = session.queue.hooks().add(session.args.hook, _given(session))
    session.did(f"hook {added.hook.name} is stored")
    if added.existing:
        session.say(f"queuectl: hook {added.hook.name} already exists with this content")
    if session.json:
        status = session.queue.hooks().show(added.hook.name)
        session.emit(document(hook=shapes.hook(status), existing=added.existing))
    else:
        session.print(added.hook.name)
    say_workers(session)
    return 0


def _given(session: "Session") -> dict[str, Any]:
    """The fields of the hook. `--timeout` is that of the request, or of the job."""
    import msgspec

    args = session.args
    own = {name: getattr(args, name) for name in ("on", "where", "url", "secret", "headers", "proxy")}
    own = {name: value for name, value in own.items() if value is not None}
    if args.stdin is not None:
        raise InvalidInput("--stdin: the event is the input of the command", "leave it out")
    if args.command or args.program or args.script:
        job: dict[str, Any] = msgspec.to_builtins(request_of(session))
        return {**own, "job": {name: value for name, value in job.items() if value is not None}}
    if "url" not in own:
        raise InvalidInput(
            "neither a command nor a URL is given", "for example: queuectl hook add note --on dead 'cat'"
        )
    return own if args.timeout is None else {**own, "timeout": args.timeout}


def list__options(parser: "Parser") -> None:
    """Add the arguments of `hook list`."""
    parser.example("queuectl hook list", "each with its counts, and whether it fails")


def list_(session: "Session") -> int:
    """Print the hooks."""
    found, unreadable = session.queue.hooks().all()
    if session.json:
        session.emit(shapes.hooks(found, unreadable))
    else:
        table(session, COLUMNS, [_row(each) for each in found], LESS)
    for name in unreadable:
        session.say(f"queuectl: hook {name} cannot be read: it is damaged, or a newer queuectl wrote it")
    if found:
        say_workers(session)
    return 0


def _row(status: "HookStatus") -> list[str]:
    hook = status.hook
    kinds = ",".join(kind.removeprefix("job.") for kind in hook.on)
    return [hook.name, kinds, _does(hook), str(hook.matched), str(hook.delivered), _is(hook)]


def _does(hook: "Hook") -> str:
    if hook.job is None:
        return hook.url or ""
    return str(hook.job.get("command") or " ".join(hook.job.get("argv") or ()))


def _is(hook: "Hook") -> str:
    if hook.paused:
        return "paused"
    if hook.failing_since:
        return f"failing since {format_instant(hook.failing_since)}"
    return f"gap {format_instant(hook.gap)}" if hook.gap else "on"


def show_options(parser: "Parser") -> None:
    """Add the arguments of `hook show`: the name."""
    parser.add_argument("hook", metavar="NAME", help="the hook")
    parser.example("queuectl hook show note", "what it does, and how far it is")


def show(session: "Session") -> int:
    """Print one hook: as a table of a file for `hook apply`, with what became of it as comments."""
    status = session.queue.hooks().show(session.args.hook)
    if session.json:
        session.emit(document(hook=shapes.hook(status)))
        return 0
    from queuectl.domain.schedule_file import toml_table

    hook = status.hook
    session.out.write(toml_table("hook", hook.name, fields_shown(hook)))
    session.print("")
    session.print(f"# {hook.matched} matched, {hook.delivered} delivered")
    if hook.paused:
        why = f": {hook.paused.reason}" if hook.paused.reason else ""
        session.print(f"# paused by {hook.paused.by} at {format_instant(hook.paused.at)}{why}")
    if hook.failing_since:
        session.print(f"# failing since {format_instant(hook.failing_since)}")
    if hook.gap:
        session.print(f"# gap: events were deleted before they were read, found {format_instant(hook.gap)}")
    return 0


def apply_options(parser: "Parser") -> None:
    """Add the arguments of `hook apply`: the file."""
    parser.add_argument("file", metavar="FILE", help="a TOML file with tables [hook.NAME]; - reads stdin")
    parser.flag("--dry-run", help="print what would change, and change nothing")
    parser.example("queuectl hook apply hooks.toml", "add the hooks of the file, or replace them")


def apply(session: "Session") -> int:
    """Add and replace hooks as in a file, and print what changed."""
    from queuectl.domain.schedule_file import parse_toml

    args = session.args
    try:
        text = texts.read(args.file, "file", limit=LARGEST).decode().removeprefix(texts.MARK)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{args.file} is not UTF-8 (byte {error.start})") from error
    found = session.queue.hooks().apply(parse_toml(text), dry_run=args.dry_run)
    if (found.added or found.changed) and not args.dry_run:
        session.did("the file is applied")
    if session.json:
        session.emit(shapes.applied(found, dry_run=args.dry_run))
        return 0
    for mark, names in (("+", found.added), ("~", found.changed)):
        session.out.writelines(f"{mark} {name}\n" for name in names)
    say_workers(session)
    return 0


def say_workers(session: "Session") -> None:
    """Report that nothing is delivered if no worker serves the queue of hooks."""
    from queuectl.service.attention import serving

    if not serving(session.queue.workers(), QUEUE):
        session.say(
            f"queuectl: no live worker serves queue {QUEUE}, so nothing is delivered; start one: queuectl worker start"
        )
