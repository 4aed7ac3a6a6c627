"""The method of `Queue` for events: the accepted changes of jobs, in order."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import asdict

from queuectl.domain import event as domain
from queuectl.domain.event import Kind
from queuectl.domain.job import Cause, State
from queuectl.domain.where import parse
from queuectl.errors import StoreUnavailable
from queuectl.python.arguments import Duration, since_of, words_of
from queuectl.python.opening import Opening
from queuectl.service.events import LAST, Selected, is_cursor, kinds_of
from queuectl.service.queue import Queue as FrontDoor

STEP = 500
"""Events that are read at once."""


class Event(Struct, frozen=True, kw_only=True):
    """One accepted change of a job.

    event       what happened, such as `job.completed`
    id          the start behind this event: pass the event, or its id, as `since` to go on there
    at          when the store wrote it
    state       after the change; `before` is the state before it, None for a new job
    attempt     the number of the attempt that the change is about, with its id and its worker
    exit_code   of the attempt that this change ended, as `signal`
    by, via     who made the change, and by which door ("cli", "python", "http"); None for a worker
    gap         events before this one were deleted before they were read
    """

    event: Kind
    id: str
    at: datetime
    job: str
    number: int
    queue: str
    batch: str | None
    state: State
    before: State | None
    attempt: int | None
    attempt_id: str | None
    worker: str | None
    exit_code: int | None
    signal: int | None
    cause: Cause | None
    by: str | None
    via: str | None
    gap: bool = False


Since = Event | Duration | datetime | None
"""An event, its id, a time, or a duration before now."""
Types = str | Iterable[str] | None


class Start(NamedTuple):
    """Where a reader begins, and what it wants."""

    cursor: str
    selected: Selected


class Events(Opening):
    """The events of a queue."""

    def events(
        self, *, since: Since = None, follow: bool = False, types: Types = None, where: str | None = None
    ) -> Iterator[Event]:
        """Yield the accepted changes of jobs, the oldest first; with `follow` also each later one, without end.

        since   an event or its id: begin behind it. A time, or a duration before now. By default the last hour; with
                `follow` from now on
        types   only these events: `"dead"`, `["completed", "job.dead"]`
        where   only of jobs that match a filter, such as `"queue:mail"`

        With `follow`, an event comes within a second, and the iterator waits while the store or the server is away.
        A reader that stores the id of the last event, and goes on with `since`, misses none. Raises `InvalidInput`.
        """
        if not follow:
            yield from self._so_far(since, types, where)
            return
        opened, gap = self._open(), False
        for found in opened.events().follow(*begin(opened, since, types, where, follow=True)):
            if found is not None:
                yield event_of(*found, gap=gap)
            gap = found is None

    def _so_far(self, since: Since, types: Types, where: str | None) -> Iterator[Event]:
        """The events so far."""
        turns, is_end = EventTurns(self, since, types, where, follow=False), False
        while not is_end:
            events, is_end = turns.next()
            yield from events


def begin(opened: FrontDoor, since: Since, types: Types, where: str | None, *, follow: bool) -> Start:
    """Where a reader begins, and what it wants. Raises InvalidInput."""
    selected = Selected(
        None if types is None else kinds_of(",".join(words_of(types))),
        None if where is None else parse(where, opened.now()),
    )
    return Start(_cursor(opened, since, follow=follow), selected)


def _cursor(opened: FrontDoor, since: Since, *, follow: bool) -> str:
    given = since.id if isinstance(since, Event) else since
    if isinstance(given, str) and is_cursor(given):
        return given
    if given is None and follow:
        return opened.events().cursor(None)
    at = since_of("since", LAST if given is None else given, opened.now())
    return opened.events().cursor(at)


class EventTurns:
    """Reads events page by page, in threads that are not blocked between the pages."""

    def __init__(
        self, queue: Opening, since: Since, types: Types, where: str | None, *, follow: bool
    ) -> None:
        self._open = queue._open
        self._begin = partial(begin, since=since, types=types, where=where, follow=follow)
        self._follow = follow
        self._start: Start | None = None
        self._gap = False

    def next(self) -> tuple[list[Event], bool]:
        """The next events, and whether these are the last ones so far."""
        opened = self._open()
        start = self._start = self._start or self._begin(opened)
        try:
            page = opened.events().page(start.cursor, STEP, start.selected)
        except StoreUnavailable:
            if not self._follow:
                raise
            return [], True
        found = list[Event]()
        self._gap = self._gap or page.gap
        for each in page.events:
            found.append(event_of(*each, gap=self._gap))
            self._gap = False
        self._start = start._replace(cursor=page.next)
        return found, page.next == start.cursor


def event_of(cursor: str, event: domain.Event, *, gap: bool) -> Event:
    """An event as a value of the Python API."""
    return Event(id=cursor, gap=gap, **asdict(event))
