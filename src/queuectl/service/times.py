"""Times as people write them, in the zone of this host: `10:30`, `now`, `@1798761600`, RFC 3339.

A local time may not exist (the clocks go forward) or exist twice (they go back). A note says which time is taken then.
"""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from queuectl.domain.instant import EARLIEST, LATEST, format_instant, in_range, parse_instant
from queuectl.domain.quantity import parse_duration
from queuectl.errors import InvalidInput

EXAMPLES = "write 10:30 (the next time that the clock shows it), 2026-11-22T15:00:00Z, @1798761600 or now; or --in 2h"

SINCE_EXAMPLES = "write a duration before now, such as 2h, or a time: 2026-11-22T15:00:00Z or @1798761600"


class Time(Struct, frozen=True):
    """A time parsed from a text of the user, in UTC, with a remark to show to the user."""

    at: datetime
    note: str | None = None


def read_time(text: str, now: datetime) -> Time:
    """The time that a text means. Raises InvalidInput with examples for any other text."""
    word = text.strip()
    if word.lower() == "now":
        return Time(now)
    if word.startswith("@"):
        return Time(_epoch(word))
    if (time := _time_of_day(word)) is not None:
        return _next(time, now)
    try:
        at = parse_instant(word)
    except InvalidInput as error:
        raise InvalidInput(error.message, EXAMPLES) from error
    return Time(at) if at.tzinfo else _local(at, word)


def parse_since(text: str, now: datetime) -> datetime:
    """A time, or a duration before now. Raises InvalidInput."""
    try:
        span = parse_duration(text)
    except InvalidInput:
        pass
    else:
        return in_range(now - span)
    try:
        return read_time(text, now).at
    except InvalidInput as error:
        raise InvalidInput(error.message, SINCE_EXAMPLES) from error


def time_of(field: str, text: str, now: datetime) -> datetime:
    """The time that a field of a JSON document means. Raises InvalidInput with the name of the field."""
    try:
        return read_time(text, now).at
    except InvalidInput as error:
        found = InvalidInput(f"{field}: {error.message}", error.hint)
        found.pointer = f"/{field}"
        raise found from error


def _epoch(word: str) -> datetime:
    digits = word[1:]
    if not (digits.isascii() and digits.replace(".", "", 1).isdigit()) or len(digits) > 20:
        raise InvalidInput(f"{word[:40]!r} is not a time", EXAMPLES)
    seconds = float(digits)
    if not seconds < LATEST.timestamp():
        raise InvalidInput(f"{word} is out of range", "use a time from 1970 to 8999")
    return _utc(seconds)


def _time_of_day(word: str) -> timedelta | None:
    """The time of day in a text such as `10:30` or `10:30:15`, as time since midnight. None for another text."""
    parts = word.split(":")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    if len(parts[0]) > 2 or any(len(part) != 2 for part in parts[1:]):
        return None
    hour, minute, second = (*map(int, parts), 0)[:3]
    if hour > 23 or minute > 59 or second > 59:
        return None
    return timedelta(hours=hour, minutes=minute, seconds=second)


def _next(time: timedelta, now: datetime) -> Time:
    """The next time at which the clocks of this zone show this time of day."""
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for day in range(3):
        wanted = midnight + timedelta(days=day) + time
        read = _local(wanted, f"{wanted:%Y-%m-%d %H:%M:%S}")
        if read.at > now:
            return read
    raise AssertionError("each time of day comes within two days")


def _local(wall: datetime, text: str) -> Time:
    """A time without a zone, taken as local time."""
    try:
        # `timestamp`, because `astimezone` applies the zone a second time, and resolves a gap in the other direction.
        first, second = (in_range(_utc(wall.replace(fold=fold).timestamp())) for fold in (0, 1))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"{text} is out of range", "use a time from 1970 to 8999") from error
    if first < second:
        said = f"exists twice here; taken the first, {format_instant(first)} (the second: {format_instant(second)})"
        return Time(first, f"{text} {said}")
    if first > second:
        after = _gap_end(second, first)
        said = f"does not exist here, the clocks go forward; taken the first time after it, {format_instant(after)}"
        return Time(after, f"{text} {said}")
    return Time(first, f"{text} has no zone; taken as local time, that is {format_instant(first)}")


def _utc(seconds: float) -> datetime:
    return EARLIEST + timedelta(seconds=seconds)


def _gap_end(before: datetime, after: datetime) -> datetime:
    """The second between two times at which the clocks of this zone go forward."""
    offset = before.astimezone().utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone().utcoffset() == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
