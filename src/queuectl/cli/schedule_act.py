"""`queuectl schedule pause`, `resume`, `run` and `remove`."""

from typing import TYPE_CHECKING

from queuectl.cli.schedule import say_next, say_workers
from queuectl.service.shapes import document
from queuectl.service.shapes import schedules as shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def _names(parser: "Parser") -> None:
    parser.add_argument("schedules", metavar="NAME", nargs="+", help="schedules")


def pause_options(parser: "Parser") -> None:
    """Add the arguments of `schedule pause`: the names and the reason."""
    _names(parser)
    parser.add_argument("--reason", metavar="R", help="a text that is stored with the pause")
    parser.example("queuectl schedule pause backup --reason 'the disk is replaced'", "until it is resumed")


def pause(session: "Session") -> int:
    """Pause schedules."""
    all_of = session.queue.schedules()
    return _each(session, "paused", lambda name: all_of.pause(name, reason=session.args.reason))


def resume_options(parser: "Parser") -> None:
    """Add the arguments of `schedule resume`: the names."""
    _names(parser)
    parser.flag("--catch-up", help="apply the catch-up policy to the instants of the pause")
    parser.example("queuectl schedule resume backup", "go on with the next instant")


def resume(session: "Session") -> int:
    """Resume schedules."""
    all_of = session.queue.schedules()
    code = _each(session, "resumed", lambda name: all_of.resume(name, catch_up=session.args.catch_up))
    for name in _given(session):
        say_next(session, all_of.show(name))
    say_workers(session)
    return code


def run_options(parser: "Parser") -> None:
    """Add the arguments of `schedule run`: the name."""
    parser.add_argument("schedule", metavar="NAME", help="the schedule")
    parser.flag("--force", help="also while the overlap policy says no")
    parser.example("queuectl schedule run backup", "one job now, beside the rule")


def run(session: "Session") -> int:
    """Add a job of the schedule now, and print its id."""
    id = session.queue.schedules().run(session.args.schedule, force=session.args.force)
    session.did(f"job {id} is enqueued")
    if session.json:
        job = session.queue.get([id])[id]
        shown = {"id": id, "number": job.number, "state": job.state, "existing": False}
        session.emit(document(jobs=[shown]))
    else:
        session.print(id)
    return 0


def remove_options(parser: "Parser") -> None:
    """Add the arguments of `schedule remove`: the names."""
    _names(parser)
    parser.flag("--cancel", help="also cancel its jobs that have not ended")
    parser.example("queuectl schedule remove backup", "fires no more; its jobs stay")


def remove(session: "Session") -> int:
    """Remove schedules."""
    all_of, cancelled = session.queue.schedules(), 0
    names = _given(session)
    for name in names:
        cancelled += all_of.remove(name, cancel=session.args.cancel)
        session.did(f"schedule {name} is removed")
    if session.json:
        session.emit(document(removed=names, cancelled=cancelled))
        return 0
    session.out.writelines(f"schedule {name} removed\n" for name in names)
    if session.args.cancel:
        session.say(f"queuectl: {cancelled} cancelled")
    return 0


def _given(session: "Session") -> list[str]:
    return list(dict.fromkeys(session.args.schedules))


def _each(session: "Session", done: str, change: "Callable[[str], object]") -> int:
    names, all_of = _given(session), session.queue.schedules()
    for name in names:
        change(name)
        session.did(f"schedule {name} is {done}")
    if session.json:
        session.emit(document(schedules=[shapes.schedule(all_of.show(name)) for name in names]))
    else:
        session.out.writelines(f"schedule {name} {done}\n" for name in names)
    return 0
