"""`queuectl hook pause`, `resume`, `test` and `remove`."""

from typing import TYPE_CHECKING, Any

from queuectl.cli.hook import say_workers
from queuectl.errors import InvalidInput
from queuectl.service.shapes import document
from queuectl.service.shapes import hooks as shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def _names(parser: "Parser") -> None:
    parser.add_argument("hooks", metavar="NAME", nargs="+", help="hooks")


def pause_options(parser: "Parser") -> None:
    """Add the arguments of `hook pause`: the names and the reason."""
    _names(parser)
    parser.add_argument("--reason", metavar="R", help="a text that is stored with the pause")
    parser.example("queuectl hook pause note --reason 'the receiver moves'", "until it is resumed")


def pause(session: "Session") -> int:
    """Pause hooks."""
    hooks = session.queue.hooks()
    return _each(session, "paused", lambda name: hooks.pause(name, reason=session.args.reason))


def resume_options(parser: "Parser") -> None:
    """Add the arguments of `hook resume`: the names."""
    _names(parser)
    parser.flag("--skip", help="go on with the events from now on, without those of the pause")
    parser.example("queuectl hook resume note", "go on with the events of the pause")


def resume(session: "Session") -> int:
    """Resume hooks."""
    hooks = session.queue.hooks()
    code = _each(session, "resumed", lambda name: hooks.resume(name, skip=session.args.skip))
    say_workers(session)
    return code


def test_options(parser: "Parser") -> None:
    """Add the arguments of `hook test`: the name and the event."""
    parser.add_argument("hook", metavar="NAME", help="the hook, which may be paused")
    parser.add_argument("--event", metavar="JSON", help='fields of the event: \'{"job":"j7","exit_code":3}\'')
    parser.example("queuectl hook test note", "one delivery of a made-up event; prints the id of its job")


def test(session: "Session") -> int:
    """Add a job for a made-up event, and print its id."""
    args = session.args
    event = None if args.event is None else _event(args.event)
    id = session.queue.hooks().test(args.hook, event)
    session.did(f"job {id} is enqueued")
    if session.json:
        job = session.queue.get([id])[id]
        shown = {"id": id, "number": job.number, "state": job.state, "existing": False}
        session.emit(document(jobs=[shown]))
    else:
        session.print(id)
    say_workers(session)
    return 0


def remove_options(parser: "Parser") -> None:
    """Add the arguments of `hook remove`: the names."""
    _names(parser)
    parser.example("queuectl hook remove note", "its jobs stay")


def remove(session: "Session") -> int:
    """Remove hooks."""
    hooks, names = session.queue.hooks(), _given(session)
    for name in names:
        hooks.remove(name)
        session.did(f"hook {name} is removed")
    if session.json:
        session.emit(document(removed=names))
    else:
        session.out.writelines(f"hook {name} removed\n" for name in names)
    return 0


def _event(text: str) -> dict[str, Any]:
    import msgspec

    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"--event: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("--event: is not an object", 'for example: {"job":"j7"}')
    return found


def _given(session: "Session") -> list[str]:
    return list(dict.fromkeys(session.args.hooks))


def _each(session: "Session", done: str, change: "Callable[[str], object]") -> int:
    names, hooks = _given(session), session.queue.hooks()
    for name in names:
        change(name)
        session.did(f"hook {name} is {done}")
    if session.json:
        session.emit(document(hooks=[shapes.hook(hooks.show(name)) for name in names]))
    else:
        session.out.writelines(f"hook {name} {done}\n" for name in names)
    return 0
