"""Which jobs a command is about: references, or a filter from `--where` and the options that stand for its terms."""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from queuectl.cli.references import JOBS_HELP, references
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.domain.query import Filter
from queuectl.domain.where import EVERY_JOB, Where, parse, refuse_empty, term
from queuectl.errors import InvalidInput, NotFound
from queuectl.service.listing import states_of as known_states

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.job import State
    from queuectl.service.matching import Wanted
    from queuectl.service.operation import Selection

SHORTHANDS = ("state", "queue", "tag", "batch", "since")
WHERE_HELP = "all that match a filter: 'state:dead queue:mail exit:1 since:2h'"


def selection_options(parser: "Parser", verb: str) -> None:
    """Add the arguments of a command that changes jobs: the jobs or a filter, and the options for many jobs."""
    parser.add_argument("job", nargs="*", metavar="JOB", help=JOBS_HELP)
    parser.add_argument("--where", metavar="FILTER", help=WHERE_HELP)
    parser.add_argument("--limit", metavar="N", help="with a filter: at most so many, smallest numbers first")
    parser.add_argument("--resume", metavar="NUMBER", help="with a filter: only jobs after this number")
    parser.flag("--background", help="with a filter: let workers do it; print the id of the operation")
    parser.flag("--dry-run", help="change nothing; print how many jobs, in which states")
    parser.flag("--yes", "-y", help=f"do not ask before {verb} many")


def wanted_of(
    session: "Session", *terms: str, names: Sequence[str] = SHORTHANDS, quiet: bool = False
) -> "Wanted":
    """What a list or a count selects: the filter of the options, with further terms; every job without both."""
    text = " ".join(filter(None, [text_of(session.args, names), *terms]))
    if not text:
        return Filter()
    where = _parsed(session, text, quiet=quiet)
    return where.filter if where.exact else where


def _parsed(session: "Session", text: str, *, quiet: bool = False) -> Where:
    where = parse(text, session.queue.now())
    if where.looks_at_all and not quiet:
        session.say("queuectl: no index decides this filter, so every job is looked at")
    return where


def text_of(args: Namespace, names: Sequence[str] = SHORTHANDS) -> str | None:
    """The filter of `--where` and of the options that are short for a term, as one text. None if none is given."""
    parts = [] if getattr(args, "where", None) is None else [args.where]
    for text in parts:
        refuse_empty(text)
    given = {name: getattr(args, name, None) for name in names}
    for name, value in given.items():
        if value is None or (value == "" and name == "state"):
            continue
        if name == "state":
            parts.append(term(name, *sorted(states_of(value))))
        elif name == "since":
            of_option("--since", parse_duration, value)
            parts.append(term(name, value))
        else:
            parts.append(term(name, value))
    return " ".join(parts) if parts else None


def states_of(text: str | None) -> "frozenset[State]":
    """The states in a comma-separated list. Raises InvalidInput for an unknown state, with the nearest name."""
    return known_states(word.strip() for word in text.split(",")) if text else frozenset()


def selected(session: "Session", names: Sequence[str] = (), *terms: str, checked: bool = True) -> "Selection":
    """The jobs that a command changes: the given ones, or those that match the filter of the options and `terms`.

    `checked`: a queue that does not exist is refused.
    """
    args = session.args
    is_all = getattr(args, "all", False)
    has_filter = is_all or text_of(args, names) is not None
    if args.job and has_filter:
        raise InvalidInput("both jobs and a filter are given", "give only one of them")
    if not has_filter:
        _refuse_without_filter(args)
        if not args.job:
            raise InvalidInput("no job is given", "give ids, numbers or @last, or --where FILTER")
        return references(args.job)
    if checked and "queue" in names and args.queue is not None:
        _check_queue(session, args.queue)
    text = " ".join(filter(None, [text_of(args, names), *terms]))
    return _bounded(_parsed(session, text or EVERY_JOB), args)


def _refuse_without_filter(args: Namespace) -> None:
    for name in ("limit", "resume"):
        if getattr(args, name) is not None:
            raise InvalidInput(f"--{name} needs a filter", "--where FILTER")
    if args.background:
        raise InvalidInput("--background needs a filter", "--where FILTER")


def _check_queue(session: "Session", queue: str) -> None:
    if queue not in {each.name for each in session.queue.queues()}:
        raise NotFound(f"there is no queue {queue!r}")


def _bounded(where: Where, args: Namespace) -> Where:
    """The filter with the bounds of --limit and --resume."""
    if args.resume is not None:
        after = _number("--resume", args.resume, 0)
        low, high = where.numbers
        text, numbers = f"{where.text} {term('number', f'>{after}')}", (max(low, after + 1), high)
        tests = (*where.tests, lambda job: job.number > after)
        where = replace(where, text=text, numbers=numbers, tests=tests, exact=where.exact and not after)
    if args.limit is not None:
        where = replace(where, limit=_number("--limit", args.limit, 1))
    return where


def _number(option: str, text: str, least: int) -> int:
    if not text.isdecimal() or len(text) > 15 or int(text) < least:
        raise InvalidInput(f"{option}: {text!r} is not a whole number from {least}")
    return int(text)
