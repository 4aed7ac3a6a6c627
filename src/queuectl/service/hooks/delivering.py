"""Reads events for the hooks, and adds a job for each event that matches, in the step that stores the cursor.

Every worker does this, without a leader. `swap` accepts one of several decisions about one version of an entry, so each
event adds one job. A worker that dies before the swap has changed nothing: the next worker decides the same events.

An entry is written only if something is to be stored: a match, the end of a job of the hook, a gap. Between two writes
a worker remembers how far it has read. After `EVENTS` events, or `SECONDS` since the first, it stores the cursor.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.config import Settings
from queuectl.domain.event import Event
from queuectl.domain.hook import Hook, entry_of, hook_of
from queuectl.domain.job import Job
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput
from queuectl.service import commands
from queuectl.service.archive_outage import get_reachable
from queuectl.service.events import as_job
from queuectl.service.firing import at_once, events_of
from queuectl.service.hooks.jobs import Maker
from queuectl.service.hooks.retry_after import retry_after
from queuectl.service.schedules.template import shared_settings
from queuectl.store.protocol import Entry, EventPage, Store, Swap

STEP = 100
"""Number of events that one step decides for each hook."""
EVENTS, SECONDS = 1000, 60.0
"""After so many events, or so many seconds, the cursor is stored although nothing matched."""

Told = tuple[str, Event]


class Position(Struct, frozen=True):
    """How far this worker has read for a version of an entry: the cursor, the number of events, and since when."""

    version: int
    cursor: str
    events: int
    since: float


class Step(Struct, frozen=True):
    """What one step did. `more`: there are more events to decide."""

    jobs: int
    more: bool
    notes: tuple[str, ...] = ()


class Delivering:
    """The part of a worker that serves the hooks of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._positions: dict[str, Position] = {}

    def step(self, now: float) -> Step:
        """Decide the next events of each hook. `now`: seconds of any steady clock."""
        entries = self._store.read_table("hooks")
        self._positions = {name: position for name, position in self._positions.items() if name in entries}
        look = _Look(self._store)
        steps = [
            self._serve(look, hook, entry.version, now)
            for name, entry in entries.items()
            if (hook := _live(name, entry)) is not None
        ]
        notes = tuple(note for step in steps for note in step.notes)
        return Step(sum(step.jobs for step in steps), any(step.more for step in steps), notes)

    def _serve(self, look: "_Look", hook: Hook, version: int, now: float) -> Step:
        position = self._positions.get(hook.name)
        if position is None or position.version != version:
            position = Position(version, hook.cursor, 0, now)
        try:
            page = look.page(position.cursor)
            jobs, decided, cursor = look.decide(hook, page)
        except InvalidInput as error:  # a filter, a template or a cursor of another program
            return Step(0, False, (f"hook {hook.name} is left alone: {error.message}",))
        after = hook.after(decided, cursor, len(jobs), look.now if page.gap else None)
        position = Position(
            version, cursor, position.events + len(decided), position.since if position.events else now
        )
        is_old = position.events >= EVENTS or (position.events and now - position.since >= SECONDS)
        more = len(page.events) == STEP or cursor != page.next
        if not is_old and replace(after, cursor=hook.cursor) == hook:
            self._positions[hook.name] = position
            return Step(0, more)
        return self._write(look, hook, after, version, jobs, more=more)

    def _write(
        self, look: "_Look", hook: Hook, after: Hook, version: int, jobs: tuple[Job, ...], *, more: bool
    ) -> Step:
        self._positions.pop(hook.name, None)
        crashpoint.reach("before_hook")
        swap = Swap("hooks", hook.name, entry_of(after), version, adding=jobs, telling=events_of(jobs))
        stored = self._store.swap([swap])[0]
        crashpoint.reach("after_hook")
        if not stored:
            return Step(0, True)
        return Step(len(jobs), more, tuple(_notes(hook, after, look.now)))


class _Look:
    """What the hooks of one step share: pages of events, the jobs of these events, and the shared settings."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: dict[str, EventPage] = {}

    @cached_property
    def now(self) -> datetime:
        """The time of the store's clock."""
        return self._store.now()

    @cached_property
    def _settings(self) -> Settings:
        return shared_settings(self._store)

    def page(self, cursor: str) -> EventPage:
        """The events behind a cursor. Hooks that have read equally far share them."""
        if cursor not in self._pages:
            self._pages[cursor] = self._store.read_events(cursor, STEP)
        return self._pages[cursor]

    def decide(self, hook: Hook, page: EventPage) -> tuple[tuple[Job, ...], list[Event], str]:
        """The jobs for the events of a page, the events that are decided then, and the cursor behind these."""
        if hook.url is not None:
            self._obey(hook, page.events)
        candidates = [each for each in page.events if hook.is_for(each[1])]
        if not candidates:
            return (), [event for _, event in page.events], page.next
        about = get_reachable(self._store, list({event.job for _, event in candidates}))
        matching = [each for each in candidates if self._matches(hook, each[1], about.get(each[1].job))]
        maker = Maker(hook, self._settings, self.now)
        taken = matching[: at_once(maker.size)]
        jobs = tuple(
            maker.job(hook.job_id(cursor), cursor, event, about.get(event.job)) for cursor, event in taken
        )
        if len(taken) == len(matching):
            return jobs, [event for _, event in page.events], page.next
        end = taken[-1][0]
        count = [cursor for cursor, _ in page.events].index(end) + 1
        return jobs, [event for _, event in page.events[:count]], end

    def _matches(self, hook: Hook, event: Event, job: Job | None) -> bool:
        return hook.where is None or parse(hook.where, self.now).matches(as_job(event, job))

    def _obey(self, hook: Hook, events: Sequence[Told]) -> None:
        """Move deliveries that failed to the time that their receivers asked for. To repeat this changes nothing."""
        ids = [event.job for _, event in events if event.event == "job.failed" and hook.is_own(event)]
        for job in get_reachable(self._store, ids).values() if ids else ():
            wait = retry_after(job.output_tail) if job and job.state == "failed" and job.history else None
            if job is None or wait is None:
                continue
            at = job.history[-1].finished_at + wait
            if at > job.run_at:
                commands.edit(
                    self._store, [job.id], priority=None, run_at=at, queue=None, version=job.version
                )


def _live(name: str, entry: Entry) -> Hook | None:
    """The hook of an entry, if events are decided for it."""
    hook = None if entry.unreadable else hook_of(name, entry.value)
    return None if hook is None or hook.paused else hook


def _notes(before: Hook, after: Hook, now: datetime) -> list[str]:
    notes = []
    if after.gap == now and before.gap != now:
        notes.append(f"hook {after.name}: events were deleted before they were read (retain_events)")
    if after.paused and not before.paused:
        notes.append(f"hook {after.name} is paused: {after.paused.reason}")
    return notes
