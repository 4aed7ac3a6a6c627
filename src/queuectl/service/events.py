"""Reads events: one page, and without end as they are written. A filter selects among them."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Protocol, get_args

from msgspec import Struct
from msgspec.structs import replace

from queuectl.config import nearest
from queuectl.domain import topics
from queuectl.domain.event import Event, Kind
from queuectl.domain.job import Attempt, Job, Spec
from queuectl.domain.where import Where
from queuectl.errors import InvalidInput, StoreUnavailable
from queuectl.store.protocol import EventPage as EventPage
from queuectl.store.protocol import Store, Subscription

STEP = 500
"""Number of events that one call of the store reads."""
LOOKED_AT = 10_000
"""Number of events that one page looks at."""
LATE = 1.0
"""Seconds after which a follower reads again, even if no change woke it."""
PACE = 0.05
"""Seconds between two reads of a follower that has read everything, so that a busy store is not read for each event."""
PREFIX = "job."
LAST = timedelta(hours=1)
"""How far back a reader begins that names no place and does not follow."""
_CURSOR = re.compile(r"\d{1,18}(-\d{1,18})?", re.ASCII)


class Selected(Struct, frozen=True):
    """Which events a reader wants. None: all kinds; all jobs; all queues."""

    kinds: frozenset[Kind] | None = None
    where: Where | None = None
    queues: frozenset[str] | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no event is left out."""
        return self.kinds is None and self.where is None and self.queues is None

    def of(
        self, events: list[tuple[str, Event]], get: Callable[[Sequence[str]], Mapping[str, Job]]
    ) -> list[tuple[str, Event]]:
        """The wanted ones among these events. `get` reads jobs; it is called only for a filter."""
        if self.kinds is not None:
            events = [each for each in events if each[1].event in self.kinds]
        if self.queues is not None:
            events = [each for each in events if each[1].queue in self.queues]
        where = self.where
        if where is None or not events:
            return events
        jobs = get(list({event.job for _, event in events}))
        return [each for each in events if where.matches(as_job(each[1], jobs.get(each[1].job)))]


EVERYTHING = Selected()


class Events(Protocol):
    """The events of a queue. A cursor is the text behind an event, from which a reader goes on."""

    def page(self, after: str | None, limit: int, selected: Selected = EVERYTHING) -> EventPage:
        """At most `limit` of the selected events behind a cursor. None: from the oldest kept.

        Looks at no more than `LOOKED_AT` events, so a page may be short or empty although more events follow. The end
        is reached when `next` is the given cursor. Raises InvalidInput for a text that is no cursor.
        """

    def cursor(self, at: datetime | None) -> str:
        """The cursor behind all events that were written before this time. None: behind the last event."""

    def follow(
        self,
        after: str,
        selected: Selected = EVERYTHING,
        notice: Callable[[str], None] = lambda text: None,
        look: Callable[[bool], None] = lambda answers: None,
    ) -> Iterator[tuple[str, Event] | None]:
        """The selected events behind a cursor, then each later one within a second. Never ends.

        None stands for events that were deleted before they were read. While the store cannot be reached, the follower
        waits, and then goes on from its cursor; `notice` gets a sentence at the beginning and the end of that. `look`
        is called after each read, at least about once a second, and gets whether the store answers.
        """


def kinds_of(text: str) -> frozenset[Kind]:
    """The kinds in a comma-separated list, with or without `job.`. Raises InvalidInput for an unknown one."""
    known = {kind.removeprefix(PREFIX): kind for kind in get_args(Kind)}
    found = set[Kind]()
    for word in text.split(","):
        name = word.strip().removeprefix(PREFIX)
        if name not in known:
            hint = nearest(name, known) or f"known: {', '.join(known)}"
            raise InvalidInput(f"there is no event {word.strip()[:40]!r}", hint)
        found.add(known[name])
    return frozenset(found)


def is_cursor(text: str) -> bool:
    """Whether a text has the form of a cursor. Only a store can say whether it is one of its own."""
    return _CURSOR.fullmatch(text) is not None


def rank(cursor: str) -> tuple[int, ...]:
    """The numbers of a cursor, which compare as the order of events."""
    return tuple(map(int, cursor.split("-")))


class LocalEvents:
    """The events of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, after: str | None, limit: int, selected: Selected = EVERYTHING) -> EventPage:
        """At most `limit` of the selected events behind a cursor."""
        if selected.is_everything:
            return self._store.read_events(after, limit)
        found, gap, looked_at = list[tuple[str, Event]](), False, 0
        while True:
            read = self._store.read_events(after, STEP)
            gap = gap or read.gap
            matching = selected.of(read.events, self._store.get)
            if len(found) + len(matching) >= limit:
                found += matching[: limit - len(found)]
                return EventPage(found, found[-1][0], gap)
            found += matching
            looked_at += len(read.events)
            if read.next == after or looked_at >= LOOKED_AT:
                return EventPage(found, read.next, gap)
            after = read.next

    def cursor(self, at: datetime | None) -> str:
        """The cursor behind all events that were written before this time."""
        return self._store.event_cursor(at)

    def follow(
        self,
        after: str,
        selected: Selected = EVERYTHING,
        notice: Callable[[str], None] = lambda text: None,
        look: Callable[[bool], None] = lambda answers: None,
    ) -> Iterator[tuple[str, Event] | None]:
        """The selected events behind a cursor, then each later one."""
        pause, is_away = threading.Event(), False
        with closing(self._store.subscribe(topics.CHANGES)) as changes:
            while True:
                try:
                    page = self.page(after, STEP, selected)
                except StoreUnavailable as error:
                    if not is_away:
                        notice(f"{error.message}; waiting for the store")
                    is_away = True
                    look(False)
                    pause.wait(LATE)
                    continue
                if is_away:
                    notice("the store is back")
                is_away = False
                if page.gap:
                    yield None
                yield from page.events
                look(True)
                if page.next == after:
                    _rest(changes, pause)
                elif len(page.events) < STEP:
                    pause.wait(PACE)
                after = page.next


def _rest(changes: Subscription, pause: threading.Event) -> None:
    """Wait for a change, at most `LATE` seconds."""
    try:
        changes.wait(LATE)
    except StoreUnavailable:  # the next read says so
        pause.wait(LATE)


def as_job(event: Event, job: Job | None) -> Job:
    """The job as a filter compares it: with the fields of the event, and otherwise as it is now.

    Of a deleted job only the fields of the event are known.
    """
    base = job or Job(
        id=event.job,
        spec=Spec(batch=event.batch),
        queue=event.queue,
        priority=0,
        state=event.state,
        run_at=event.at,
        sort_key=0,
        created_at=event.at,
        updated_at=event.at,
        number=event.number,
        history=_history(event),
    )
    return replace(
        base,
        queue=event.queue,
        state=event.state,
        cause=event.cause,
        exit_code=event.exit_code,
        attempts=event.attempt or base.attempts,
    )


def _history(event: Event) -> tuple[Attempt, ...]:
    if event.attempt_id is None or event.attempt is None or event.worker is None:
        return ()
    ran = Attempt(
        attempt=event.attempt,
        attempt_id=event.attempt_id,
        worker=event.worker,
        outcome="",
        claimed_at=event.at,
        finished_at=event.at,
        exit_code=event.exit_code,
        signal=event.signal,
    )
    return (ran,)
