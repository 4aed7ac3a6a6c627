"""Converts points in time from and to text: RFC 3339, and ages such as `12m`."""

from datetime import UTC, datetime, timedelta

from queuectl.errors import InvalidInput

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def parse_instant(text: str) -> datetime:
    """The time in an RFC 3339 text. With a zone it is converted to UTC; without, it is naive and the caller decides.

    Raises InvalidInput for other text and for years before 1970 or after 8999.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
        return in_range(instant.astimezone(UTC)) if instant.tzinfo else instant
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{text!r} is not a time", "write RFC 3339 with a zone: 2026-11-22T15:00:00Z"
        ) from error


def in_range(instant: datetime) -> datetime:
    """Return the time if every store can keep it, otherwise raise InvalidInput."""
    if not EARLIEST <= instant < LATEST:
        raise InvalidInput(f"{instant.isoformat()} is out of range", "use a time from 1970 to 8999")
    return instant


def format_instant(instant: datetime) -> str:
    """A time as RFC 3339 in UTC with microseconds, such as `2026-11-22T15:00:00.000000Z`."""
    # `strftime` takes twice as long.
    return instant.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def format_age(age: timedelta) -> str:
    """A coarse duration for tables, such as `3s`, `12m`, `5h` or `2d`. A negative age is `0s`."""
    rest = max(age.total_seconds(), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if rest >= 2 * size or (unit == "d" and rest >= size):
            return f"{int(rest // size)}{unit}"
    return f"{int(rest)}s"
