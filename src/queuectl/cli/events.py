"""`queuectl events`: prints the changes of jobs, those of the past or as they happen."""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from queuectl import interrupt
from queuectl.domain.event import Event
from queuectl.domain.quantity import parse_duration
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput
from queuectl.service.events import LAST, Events, Selected, is_cursor, kinds_of
from queuectl.service.shapes import events as shapes
from queuectl.terminal import safe

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

STEP = 500
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")


def events_options(parser: "Parser") -> None:
    """Add the arguments of `events`: where it begins, what it selects, and the format."""
    parser.add_argument(
        "--since",
        metavar="CURSOR|D|T",
        help="behind this cursor (the id of an event), or from a time on: 2h, 10:30, 2026-11-22T15:00Z "
        "(default: the last hour; with --follow: now)",
    )
    parser.flag("-f", "--follow", help="go on with each later event, until Ctrl+C")
    parser.add_argument("--where", metavar="FILTER", help="of jobs that match: 'queue:mail state:dead'")
    parser.add_argument("--type", metavar="T,…", help="only these events: completed,dead")
    parser.add_argument("--limit", metavar="N", help="at most so many, the oldest first")
    parser.flag("--jsonl", help="one JSON document per event")
    parser.example("queuectl events --since 2h", "what happened in the last two hours")
    parser.example("queuectl events --type dead --jsonl", "jobs that failed for good, as JSON")


def events(session: "Session") -> int:
    """Print events."""
    args = session.args
    limit = None if args.limit is None else _limit(args.limit)
    selected = _selected(session)
    found = session.queue.events()
    begin = _begin(session, found)
    if args.follow:
        return _follow(session, found, begin, selected, limit)
    pages = _Pages(found, begin, selected, limit)
    if session.json and not args.jsonl:
        every = [each for each in pages if each is not None]
        session.emit(shapes.page(every, pages.next, gap=pages.gap))
        return 0
    for each in pages:
        _print(session, each)
    return 0


class _Pages:
    """The events behind a cursor up to the last one. None stands for deleted events."""

    def __init__(self, events: Events, begin: str, selected: Selected, limit: int | None) -> None:
        self._events, self._selected, self._left = events, selected, limit
        self.next, self.gap = begin, False

    def __iter__(self) -> Iterator[tuple[str, Event] | None]:
        while self._left is None or self._left > 0:
            size = STEP if self._left is None else min(STEP, self._left)
            page, before = self._events.page(self.next, size, self._selected), self.next
            self.next, self.gap = page.next, self.gap or page.gap
            if page.gap:
                yield None
            yield from page.events
            if page.next == before:
                return
            self._left = None if self._left is None else self._left - len(page.events)


def _follow(session: "Session", events: Events, begin: str, selected: Selected, limit: int | None) -> int:
    interrupt.answer()
    left = limit

    def notice(text: str) -> None:
        session.out.flush()
        session.say(f"queuectl: {text}")

    for each in events.follow(begin, selected, notice):
        _print(session, each)
        session.out.flush()
        left = left - 1 if left is not None and each is not None else left
        if left == 0:
            break
    return 0


def _print(session: "Session", each: tuple[str, Event] | None) -> None:
    if session.args.jsonl or session.json:
        session.emit(shapes.GAP if each is None else shapes.event(*each))
    elif each is None:
        session.say("queuectl: older events were deleted")
    else:
        session.print(safe(_line(each[1])))


def _line(event: Event) -> str:
    """One event as a line: time, kind, job, and what belongs to the kind."""
    parts = [
        None if event.attempt is None else f"attempt {event.attempt}",
        None if event.exit_code is None else f"exit {event.exit_code}",
        None if event.signal is None else f"signal {event.signal}",
        None if event.cause is None else f"cause {event.cause}",
        None if event.worker is None else f"worker {event.worker}",
        None if event.by is None else f"by {event.by}",
    ]
    kind = event.event.removeprefix("job.")
    local = event.at.astimezone()
    details = ", ".join(part for part in parts if part)
    return f"{local:%Y-%m-%d %H:%M:%S}  {kind:<16}  {event.number:>6}  {event.queue}  {event.job}  {details}".rstrip()


def _selected(session: "Session") -> Selected:
    args = session.args
    kinds = None if args.type is None else kinds_of(args.type)
    where = None if args.where is None else parse(args.where, session.queue.now())
    return Selected(kinds, where)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) <= 1_000_000):
        raise InvalidInput(f"--limit: {text[:40]!r} is not a whole number from 1 to 1000000")
    return int(text)


def _begin(session: "Session", events: Events) -> str:
    """The cursor that --since means."""
    since, now = session.args.since, session.queue.now()
    if since is None:
        return events.cursor(None if session.args.follow else now - LAST)
    if is_cursor(since):
        return str(since)
    return events.cursor(_time(since, now))


def _time(text: str, now: datetime) -> datetime:
    from queuectl.service.times import read_time

    with suppress(InvalidInput, OverflowError):
        return now - parse_duration(text)
    try:
        at = read_time(text, now).at
    except InvalidInput as error:
        raise InvalidInput(
            f"--since: {text[:40]!r} is no cursor, duration or time",
            "for example: 2h, 10:30, 2026-11-22T15:00Z",
        ) from error
    return at - timedelta(days=1) if at > now and _TIME_OF_DAY.fullmatch(text.strip()) else at
