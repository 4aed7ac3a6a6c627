"""Rules of time: when a schedule fires. A rule gives instants: moments in UTC with whole seconds.

A rule is a cron expression (five fields, or six with the seconds first), a name such as `@daily`, or `@every D`.

The library `cronsim` finds the local times that match the fields. It gets local times without a zone, because its own
treatment of shifts differs from the table below in three cases: on Lord Howe, where clocks shift by 30 minutes,
`*/15 3 * * *` loses the runs at 03:00 and 03:15; in the second half of an overlap the next instant of a fixed rule can
lie before the given one; and a rule of six fields is never fixed. This module maps local times to instants:

| rule | clocks go forward (gap) | clocks go back (overlap) |
| --- | --- | --- |
| fixed: neither minute nor hour begins with `*` | the gap fires once, at its end | fires once, the first time |
| other cron rules | no instant: real time goes on | fires both times |
| `@every` | elapsed time | elapsed time |
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import takewhile
from typing import Protocol

from msgspec import Struct

from queuectl.domain import zone as zones
from queuectl.domain.quantity import format_duration, parse_duration
from queuectl.domain.zone import (
    SECOND,
    Shift,
    first_shift,
    last_shift,
    latest_local,
    local,
    moment_of,
    offset_at,
)
from queuectl.errors import InvalidInput

LONGEST = 200
"""How many characters a rule may have."""

NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_FORM = (
    "write five fields, minute hour day-of-month month day-of-week, such as '30 2 * * *'; six with the seconds first; "
    f"{', '.join(NAMED)}; or @every and a duration, such as @every 10m"
)
LAST = datetime(9000, 1, 1, tzinfo=UTC)
"""No instant lies after this moment: Python has no time zones and no arithmetic at the end of the year 9999."""
_LONG_AGO = datetime(2000, 1, 1)
_YEAR = timedelta(days=400)
"""How far `notes` looks for the next shift."""
_CENTURY = timedelta(days=36_525)
"""How far `notes` looks at most: each day is looked at, which takes about 10 µs."""


class Rule(Protocol):
    """A rule of time in a time zone."""

    @property
    def when(self) -> str:
        """The text of the rule, with single spaces."""

    @property
    def zone(self) -> tzinfo:
        """The time zone."""

    def forward(self, after: datetime) -> Iterator[datetime]:
        """The instants after a moment, the earliest first, until `LAST`."""

    def backward(self, until: datetime) -> Iterator[datetime]:
        """The instants until a moment, that moment included, the latest first."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first instant after a moment; None if the next 50 years contain none."""

    def describe(self) -> str:
        """The rule in words."""

    def notes(self, after: datetime, until: datetime | None = None) -> list[str]:
        """What a reader may not expect: the next shift, or with `until` all shifts up to then, for a century."""


def parse(when: str, timezone: str, anchor: datetime) -> Rule:
    """The rule in a text. `anchor`: the moment from which `@every` counts. Raises InvalidInput that names the field."""
    zone, text = zones.zone_named(timezone), " ".join(when.split())
    word, _, rest = text.partition(" ")
    if word.lower() == "@every":
        return Every(text, zone, whole(anchor), _every(text, rest))
    return _cron(text, zone, timezone)


def whole(moment: datetime) -> datetime:
    """The moment without the fraction of its second."""
    return moment.replace(microsecond=0)


class Every(Struct, frozen=True):
    """`@every D`: elapsed time from an anchor. The anchor is the first instant. Fractions of a second are cut off."""

    when: str
    zone: tzinfo
    anchor: datetime
    every: timedelta

    def forward(self, after: datetime) -> Iterator[datetime]:
        """See `Rule`."""
        for count in range(self._count_until(after), (LAST - self.anchor) // self.every + 1):
            yield whole(self.anchor + count * self.every)

    def backward(self, until: datetime) -> Iterator[datetime]:
        """See `Rule`."""
        for count in range(self._count_until(until) - 1, -1, -1):
            yield whole(self.anchor + count * self.every)

    def _count_until(self, moment: datetime) -> int:
        """How many instants there are until a moment."""
        return max(0, -((self.anchor - whole(moment) - SECOND) // self.every))

    def next_after(self, moment: datetime) -> datetime | None:
        """See `Rule`."""
        return next(self.forward(moment), None)

    def describe(self) -> str:
        """See `Rule`."""
        return f"Every {format_duration(self.every)}"

    def notes(self, after: datetime, until: datetime | None = None) -> list[str]:  # noqa: ARG002 - none for any range
        """None: elapsed time has no shifts."""
        return []


class Cron(Struct, frozen=True):
    """A cron rule. `fields`: the expression that the name or the text means. `fixed`: see the table of this module."""

    when: str
    zone: tzinfo
    timezone: str
    fields: str
    fixed: bool

    def forward(self, after: datetime) -> Iterator[datetime]:
        """See `Rule`."""
        found = self._fixed_forward(whole(after)) if self.fixed else self._other_forward(whole(after))
        return takewhile(lambda instant: instant <= LAST, found)

    def backward(self, until: datetime) -> Iterator[datetime]:
        """See `Rule`."""
        return self._fixed_backward(whole(until)) if self.fixed else self._other_backward(whole(until))

    def next_after(self, moment: datetime) -> datetime | None:
        """See `Rule`."""
        return next(self.forward(moment), None)

    def describe(self) -> str:
        """See `Rule`."""
        from cronsim import CronSim

        return CronSim(self.fields, _LONG_AGO).explain()

    def notes(self, after: datetime, until: datetime | None = None) -> list[str]:
        """See `Rule`."""
        day, weekday = self.fields.split()[-3], self.fields.split()[-1]
        either = not day.startswith("*") and not weekday.startswith("*")
        first = (
            ["day of month and day of week are both given: it fires when either matches"] if either else []
        )
        return first + [self._shift_note(shift) for shift in self._shifts(whole(after), until)]

    def _walls(self, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        """The local times that match the fields, from `start` on without it."""
        from cronsim import CronSim

        return iter(CronSim(self.fields, start, reverse))

    def _fixed_forward(self, after: datetime) -> Iterator[datetime]:
        """All local times of a gap have one moment, and those of an overlap have passed in its second half."""
        for wall in self._walls(local(after, self.zone)):
            moment = moment_of(wall, self.zone)
            if moment > after:
                yield moment
                after = moment

    def _fixed_backward(self, until: datetime) -> Iterator[datetime]:
        last = None
        for wall in self._walls(latest_local(until, self.zone) + SECOND, reverse=True):
            moment = moment_of(wall, self.zone)
            if moment <= until and moment != last:
                yield moment
                last = moment

    def _other_forward(self, after: datetime) -> Iterator[datetime]:
        """The matching local times of each stretch of time between two shifts, by the offset of this stretch."""
        start: datetime | None = local(after, self.zone)
        offset = offset_at(after, self.zone)
        while start is not None:
            walls, start = self._walls(start), None
            for wall in walls:
                moment = (wall - offset).replace(tzinfo=UTC)
                if shift := first_shift(self.zone, after, moment):
                    after, offset = shift.at, shift.after
                    start = local(after, self.zone) - SECOND
                    break
                yield moment
                after = moment

    def _other_backward(self, until: datetime) -> Iterator[datetime]:
        start: datetime | None = local(until, self.zone) + SECOND
        offset = offset_at(until, self.zone)
        while start is not None:
            walls, start = self._walls(start, reverse=True), None
            for wall in walls:
                moment = (wall - offset).replace(tzinfo=UTC)
                if shift := last_shift(self.zone, moment, until):
                    until, offset = shift.at - SECOND, shift.before
                    start = local(until, self.zone) + SECOND
                    break
                yield moment
                until = moment

    def _shifts(self, after: datetime, until: datetime | None) -> Iterator[Shift]:
        end = min(whole(until), after + _CENTURY) if until else after + _YEAR
        while shift := first_shift(self.zone, after, end):
            yield shift
            if until is None:
                return
            after = shift.at

    def _shift_note(self, shift: Shift) -> str:
        start, end = shift.shown
        wall = next(self._walls(start - SECOND), None)
        return f"{_shift_text(shift, self.timezone)}; {self._effect(shift, wall is not None and wall < end)}"

    def _effect(self, shift: Shift, concerned: bool) -> str:
        if not concerned:
            return "no run lies in between"
        if shift.size < timedelta(0):
            return f"what lies in between runs {'once, the first time' if self.fixed else 'both times'}"
        if self.fixed:
            return f"what lies in between runs once, at {shift.shown[1]:%H:%M}"
        return "what lies in between does not run"


def _shift_text(shift: Shift, timezone: str) -> str:
    start, end = shift.shown
    if shift.size < timedelta(0):
        return f"{end:%Y-%m-%d} in {timezone}: the clocks go back from {end:%H:%M} to {start:%H:%M}"
    return f"{start:%Y-%m-%d} in {timezone}: the clocks go forward from {start:%H:%M} to {end:%H:%M}"


def _every(text: str, rest: str) -> timedelta:
    """The duration of `@every`. Raises InvalidInput."""
    try:
        every = parse_duration(rest)
    except InvalidInput as error:
        raise InvalidInput(f"when: {text[:80]!r}: {error.message}", error.hint) from error
    if every < SECOND:
        raise InvalidInput(f"when: {text!r} is shorter than a second", "write at least @every 1s")
    return every


@lru_cache(maxsize=1024)  # a worker parses the same rules at each instant
def _cron(text: str, zone: tzinfo, timezone: str) -> Cron:
    """The rule of a cron expression or a name. Raises InvalidInput for a bad one, and for one that never matches."""
    fields = NAMED.get(text.lower()) or (_refuse_name(text) if text.startswith("@") else text)
    if len(text) > LONGEST or not text.isascii():
        raise InvalidInput(f"when: {text[:80]!r} is not a rule: too long, or not ASCII", _FORM)
    parts = fields.split()
    if len(parts) not in (5, 6):
        raise InvalidInput(f"when: {text[:80]!r} has {len(parts)} field{'s' * (len(parts) != 1)}", _FORM)
    _refuse_long_steps(text, parts)
    fixed = not parts[-5].startswith("*") and not parts[-4].startswith("*")
    rule = Cron(text, zone, timezone, fields, fixed)
    _refuse_unmatched(rule)
    return rule


def _refuse_long_steps(text: str, fields: list[str]) -> None:
    """Raise InvalidInput for a step such as `*/61`, which matches once in its field and is described as every 61."""
    for (name, values), field in zip(_VALUES[-len(fields) :], fields, strict=True):
        for term in field.split(","):
            step = term.partition("/")[2]
            if step.isdecimal() and int(step) > values:
                raise InvalidInput(
                    f"when: {text!r}: bad {name}: the step of {term} is greater than {values}",
                    "elapsed time is another rule, for example: @every 90m",
                )


_VALUES = (
    ("second", 60),
    ("minute", 60),
    ("hour", 24),
    ("day-of-month", 31),
    ("month", 12),
    ("day-of-week", 7),
)
"""The fields of a rule, each with the number of its values."""


def _refuse_unmatched(rule: Cron) -> None:
    from cronsim import CronSim, CronSimError

    try:
        found = next(CronSim(rule.fields, _LONG_AGO), None)
    except CronSimError as error:
        raise InvalidInput(f"when: {rule.when!r}: {str(error).lower()}", _FORM) from error
    if found is None:
        raise InvalidInput(
            f"when: {rule.when!r} never matches a date", "check day of month, month and day of week"
        )


def _refuse_name(text: str) -> str:
    if text.lower() == "@reboot":
        raise InvalidInput(
            "when: @reboot is not a time",
            "let the service manager run `queuectl enqueue` at boot, for example a systemd unit of Type=oneshot",
        )
    raise InvalidInput(f"when: {text[:80]!r} is not known", _FORM)
