"""A schedule: its entry in the shared table, and what a person changes in it. `domain/firing.py` decides its instants.

An instant is decided at most once. `next` is the next instant to decide; it is computed once, when the instant before
it is decided, and stored, so that workers with different data of time zones agree.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain import recurrence
from queuectl.domain.recurrence import Rule, whole
from queuectl.domain.schedule_definition import Definition, Moment, check_schedule_name, fields_of
from queuectl.domain.zone import DAY, SECOND, local, moment_of
from queuectl.errors import InvalidInput

Verdict = Literal["fired", "skipped", "missed", "replaced", "failed"]
"""What became of an instant. fired: a job was added. skipped: the job before had not ended. missed: nobody decided it
in time, and the catch-up policy does not run it. replaced: a job was added, and the jobs before it were cancelled.
failed: the template of the job is not valid any more."""

DECISIONS_KEPT = 20
OPEN_KEPT = 1100
"""How many jobs that have not ended an entry names: all of a catch-up and some more. `replace` needs them all."""
COUNTED = 10_000
"""A decision counts at most so many instants. This bounds the time that a worker needs after a long outage."""

_GIVING_INSTANTS = ("when", "timezone", "start", "end", "not_on")


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision about one instant, or about `count` instants from `first` to `instant` with the same verdict.

    job     the id of the job that was added
    reason  why it failed
    """

    instant: Moment
    decided_at: Moment
    decision: Verdict
    count: int = 1
    first: Moment | None = None
    job: str | None = None
    reason: str | None = None


class Pause(Struct, frozen=True, kw_only=True):
    """Who paused a schedule, when, and why."""

    by: str
    at: Moment
    reason: str | None = None


class Schedule(Definition, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the shared table `schedules`. A program of another version that knows a field more is not understood.

    anchor     the moment from which `@every` counts
    next       the next instant to decide; None if there is none
    backlog    instants until then are missed ones: the catch-up policy decides them, however late they are
    open       the ids of its newest jobs that have not been seen ended, the oldest first
    decisions  the newest decisions, the oldest first
    decided_before  the newest known instant of a schedule of this name that was removed
    """

    name: str
    anchor: Moment
    paused: Pause | None = None
    next: Moment | None = None
    backlog: Moment | None = None
    open: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    decided_before: Moment | None = None

    @property
    def due(self) -> datetime | None:
        """The moment from which a worker has something to decide; None if there is no such moment."""
        if self.paused or self.next is None:
            return None
        # After a backlog was noted, the clock may have been set back: the backlog is decided as a whole, later.
        return max(self.next, self.backlog or self.next)

    @property
    def last_decided(self) -> datetime | None:
        """The newest instant that was decided."""
        return self.decisions[-1].instant if self.decisions else self.decided_before

    def rule(self) -> Rule:
        """The rule of time. Raises InvalidInput if this host does not know the time zone."""
        return recurrence.parse(self.when, self.timezone, self.anchor)

    def forward(self, after: datetime) -> Iterator[datetime]:
        """The instants after a moment, the earliest first: those of the rule, within start, end and days off."""
        rule = self.rule()
        after = max(after, self.start - SECOND) if self.start else after
        instants = rule.forward(after)
        while (instant := next(instants, None)) is not None and not (self.end and instant > self.end):
            day = local(instant, rule.zone).replace(hour=0, minute=0, second=0)
            if day.date() in self.not_on:
                instants = rule.forward(max(instant, moment_of(day + DAY, rule.zone) - SECOND))
            else:
                yield instant

    def backward(self, until: datetime) -> Iterator[datetime]:
        """The instants until a moment, that moment included, the latest first."""
        rule = self.rule()
        instants = rule.backward(min(until, self.end) if self.end else until)
        while (instant := next(instants, None)) is not None and not (self.start and instant < self.start):
            day = local(instant, rule.zone).replace(hour=0, minute=0, second=0)
            if day.date() in self.not_on:
                instants = rule.backward(min(instant, moment_of(day, rule.zone)) - SECOND)
            else:
                yield instant

    def span(self, stop: datetime) -> "Span | None":
        """The instants from `next` until before a moment; None if there are none."""
        first = self.next
        if first is None or first >= stop:
            return None
        last = max(first, next(self.backward(stop - timedelta(microseconds=1)), first))
        others = takewhile(lambda instant: instant < stop, self.forward(first))
        return Span(first, last, 1 + sum(1 for _ in islice(others, COUNTED - 1)))

    def decided(self, *decisions: Decision) -> tuple[Decision, ...]:
        """The newest decisions with further ones."""
        return (*self.decisions, *decisions)[-DECISIONS_KEPT:]


class Removed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entry of a removed schedule. It stays for `REMOVED_KEPT`, so that versions of entries of this name rise.

    A worker may have read the entry before the removal. If a new entry of the same name began with version 1 again,
    the worker could store its decision about the old schedule over the new one.

    decided  the newest instant that was decided
    """

    removed: Moment
    decided: Moment | None = None


REMOVED_KEPT = timedelta(days=7)
"""Instants repeat only if the clock is set back past the removal, and old decisions only win if a process sleeps for
so long between its read and its swap: a laptop over a long weekend."""


class Span(Struct, frozen=True):
    """Some instants: the first, the last, and how many there are (at most `COUNTED`)."""

    first: datetime
    last: datetime
    count: int

    def missed(self, now: datetime) -> Decision:
        """The decision that these instants are missed."""
        return Decision(
            instant=self.last,
            decided_at=now,
            decision="missed",
            count=self.count,
            first=self.first if self.count > 1 else None,
        )


def new(
    name: str,
    definition: Definition,
    now: datetime,
    *,
    pause: Pause | None = None,
    decided: datetime | None = None,
) -> Schedule:
    """A new schedule. Its first instant is after now, and after `decided`.

    `decided`: the newest instant of an earlier schedule of this name that is known, for example from its jobs
    (`instant_of`). The clock may have been set back since.
    """
    made = Schedule(
        **fields_of(definition),
        name=check_schedule_name(name),
        anchor=_anchor(definition, now),
        paused=pause,
        decided_before=decided,
    )
    return _next_after(made, now)


def edited(entry: Schedule, definition: Definition, now: datetime) -> Schedule:
    """The schedule with another definition. The anchor changes only with `when`.

    If the instants stay the same, `next` stays: an edit does not lose an instant that is overdue. Otherwise instants of
    the old rule that are overdue are noted as missed, and the next instant is after now and the last decided one.
    """
    anchor = entry.anchor if definition.when == entry.when else _anchor(definition, now)
    changed = replace(entry, **fields_of(definition), anchor=anchor)
    if all(getattr(entry, name) == getattr(changed, name) for name in _GIVING_INSTANTS):
        return changed
    return _next_after(replace(changed, decisions=entry.decided(*_given_up(entry, now)), backlog=None), now)


def paused(entry: Schedule, pause: Pause) -> Schedule:
    """The schedule, paused: nothing fires and nothing is missed. A second pause changes nothing."""
    return entry if entry.paused else replace(entry, paused=pause)


def resumed(entry: Schedule, now: datetime, *, catch_up: bool = False) -> Schedule:
    """The schedule, no longer paused. It goes on with the next instant after now.

    `catch_up`: its catch-up policy decides all instants of the pause, those of the last minute too.
    """
    if entry.paused is None:
        return entry
    running = replace(entry, paused=None, backlog=None)
    if not catch_up:
        return _next_after(running, now)
    late = entry.next is not None and entry.next <= now
    return replace(running, backlog=whole(now) if late else None)


def imported_after(entry: Schedule, decided: datetime | None) -> Schedule:
    """The schedule, imported in place of one of this name that has decided instants until `decided`."""
    if decided is None or entry.next is None or entry.next > decided:
        return entry
    return replace(entry, next=next(entry.forward(decided), None))


def job_id(name: str, instant: datetime) -> str:
    """The id of the job of an instant. It is the second defence against a second job of one instant."""
    return f"{name}:{instant.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def instant_of(id: str) -> datetime | None:
    """The instant in the id of a job; None if a schedule did not make the id for an instant."""
    try:
        return datetime.strptime(id.rpartition(":")[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def entry_of(schedule: Schedule) -> dict[str, Any]:
    """The schedule as an entry of the shared table. The key of the entry is the name."""
    value: dict[str, Any] = msgspec.to_builtins(schedule)
    del value["name"]
    return value


def schedule_of(name: str, value: dict[str, Any]) -> Schedule | None:
    """The schedule of an entry; None if the entry is damaged, or of a version with more fields: it is left alone."""
    try:
        return msgspec.convert({**value, "name": name}, Schedule)
    except msgspec.ValidationError:
        return None


def removed_of(value: dict[str, Any]) -> Removed | None:
    """The removed schedule of an entry; None if the entry is a schedule."""
    if "removed" not in value:
        return None
    try:
        return msgspec.convert(value, Removed)
    except msgspec.ValidationError:
        return None


def _next_after(entry: Schedule, now: datetime) -> Schedule:
    """The schedule with the first instant after now and after the last that was decided."""
    return replace(entry, next=next(entry.forward(max(now, entry.last_decided or now)), None))


def _given_up(entry: Schedule, now: datetime) -> tuple[Decision, ...]:
    """The decision about overdue instants whose rule is replaced."""
    if entry.paused:
        return ()
    try:
        span = entry.span(now + timedelta(microseconds=1))
    except InvalidInput:  # this host does not know the old time zone; the edit may be the cure
        return ()
    return (span.missed(now),) if span else ()


def _anchor(definition: Definition, now: datetime) -> datetime:
    return whole(definition.start or now)
