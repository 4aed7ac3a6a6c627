"""Time zones: the moment of a local time, and the shifts of a zone (clocks go forward or back).

A local time is naive: it is what a clock on the wall shows. In a gap (clocks go forward) some local times do not exist;
in an overlap (clocks go back) some exist twice. All moments are aware, in UTC, with whole seconds.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from queuectl.errors import InvalidInput

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
_OF_THIS_HOST = frozenset(("localtime", "posixrules", "Factory"))


class Shift(NamedTuple):
    """A change of a zone's offset from UTC.

    at      the first moment with the new offset
    before  the offset until then
    after   the offset from then on
    """

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def size(self) -> timedelta:
        """By how much the clocks go forward; negative if they go back."""
        return self.after - self.before

    @property
    def shown(self) -> tuple[datetime, datetime]:
        """The local times, from and until, that do not exist (a gap) or exist twice (an overlap)."""
        ends = (_wall(self.at, self.before), _wall(self.at, self.after))
        return min(ends), max(ends)


def zone_named(name: str) -> tzinfo:
    """The zone with an IANA name. Raises InvalidInput if this host does not know the name.

    `UTC` needs no zone data. Names that mean another zone on each host, such as `localtime`, are refused.
    """
    if name == "UTC":
        return UTC
    try:
        if name not in _OF_THIS_HOST:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass  # unknown; not a name (`../etc`); a directory (`Europe`)
    raise InvalidInput(
        f"timezone: {name[:80]!r} is not a time zone that this host knows",
        "write an IANA name such as Europe/Berlin or UTC; the Debian package tzdata contains them",
    )


def local(moment: datetime, zone: tzinfo) -> datetime:
    """The local time at a moment, naive."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """The first moment at which a clock in the zone shows this local time or a later one.

    That is the end of the gap for a time in a gap, and the first of the two moments for a time in an overlap.
    """
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if local(moment, zone) == wall:
        return moment
    shift = last_shift(zone, moment - 2 * DAY, moment)
    return moment if shift is None else shift.at


def latest_local(moment: datetime, zone: tzinfo) -> datetime:
    """The latest local time that a clock in the zone has shown until this moment, in this overlap or outside of one."""
    there = moment.astimezone(zone)
    return _wall(moment, max(offset_at(moment, zone), there.replace(fold=0).utcoffset() or timedelta(0)))


def first_shift(zone: tzinfo, after: datetime, until: datetime) -> Shift | None:
    """The first shift in `after` < shift ≤ `until`. A zone that shifts twice within a day and back is not noticed."""
    if zone is UTC:
        return None
    return next((shift for a, b in _days(after, until) if (shift := _shift_in(zone, a, b))), None)


def last_shift(zone: tzinfo, after: datetime, until: datetime) -> Shift | None:
    """The last shift in `after` < shift ≤ `until`."""
    if zone is UTC:
        return None
    while after < until:
        start = max(after, until - DAY)
        if shift := _shift_in(zone, start, until):
            return shift
        until = start
    return None


def _days(after: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    while after < until:
        end = min(after + DAY, until)
        yield after, end
        after = end


def _shift_in(zone: tzinfo, after: datetime, until: datetime) -> Shift | None:
    """The shift between two moments at most a day apart, found by bisection."""
    before, later = offset_at(after, zone), offset_at(until, zone)
    if before == later:
        return None
    while until - after > SECOND:
        middle = after + timedelta(seconds=(until - after) // SECOND // 2)
        after, until = (middle, until) if offset_at(middle, zone) == before else (after, middle)
    return Shift(until, before, later)


def offset_at(moment: datetime, zone: tzinfo) -> timedelta:
    """The offset of the zone from UTC at a moment."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _wall(moment: datetime, offset: timedelta) -> datetime:
    return (moment + offset).replace(tzinfo=None)
