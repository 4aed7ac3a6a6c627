"""What a person says about a schedule: its rule, its policies and its job. Every field is checked, and named if wrong.

The template of the job is not checked beyond the keys that a schedule sets itself: the caller checks it as a request.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from queuectl.domain import recurrence
from queuectl.domain.instant import EARLIEST, in_range, parse_instant
from queuectl.domain.names import check_name
from queuectl.domain.quantity import parse_duration, seconds
from queuectl.domain.zone import moment_of, zone_named
from queuectl.errors import InvalidInput

Overlap = Literal["skip", "queue", "replace", "allow"]
"""What happens at an instant while a job of the schedule has not ended."""
Catchup = Literal["last", "skip", "all"]
"""Which of the missed instants run later."""
Moment = Annotated[datetime, Meta(tz=True)]

NAME_LONGEST = 64
DAYS_OFF = 1000
"""How many dates `not_on` may have."""

OF_THE_SCHEDULE = frozenset(
    ("id", "run_at", "scheduled_at", "delay", "unique_key", "after", "schedule", "instant")
)
"""Keys of a job that its schedule sets, or that make no sense for a job that runs again and again."""


class Definition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that a person sets.

    job             the template: keys of an enqueue
    catchup_window  a missed instant runs later only if it is at most this old
    jitter          a job starts up to this much after its instant
    start, end      instants before and after these moments do not exist
    not_on          dates, in the time zone, without instants
    owner           whose file contains the schedule; None if a person added it
    """

    when: str
    timezone: str
    job: dict[str, Any]
    overlap: Overlap = "skip"
    catchup: Catchup = "last"
    catchup_window: timedelta = timedelta(days=1)
    jitter: timedelta = timedelta(0)
    start: Moment | None = None
    end: Moment | None = None
    not_on: tuple[date, ...] = ()
    owner: str | None = None


FIELDS = Definition.__struct_fields__
_CLEARED = ("start", "end", "owner")
"""Fields that the word `none` clears."""


def fields_of(definition: Definition) -> dict[str, Any]:
    """The fields of a definition, or of a schedule, that a person sets."""
    return {name: getattr(definition, name) for name in FIELDS}


def check_schedule_name(name: str) -> str:
    """Return the name if a schedule may have it, otherwise raise InvalidInput."""
    if len(name) > NAME_LONGEST or ":" in name:
        raise InvalidInput(
            f"name: {name[:40]!r} is not allowed for a schedule",
            f"a letter or digit, then letters, digits and . _ -, at most {NAME_LONGEST} characters",
        )
    return check_name("name", name)


def define(given: Mapping[str, Any], *, timezone: str, base: Definition | None = None) -> Definition:
    """The definition from texts, numbers and values of TOML or JSON. None stands for a field that is not given.

    `timezone` is used if neither `given` nor `base` has one. `base`: the definition that is changed. A given `job`
    replaces that of `base` as a whole. Raises InvalidInput.
    """
    found = fields_of(base) if base else {"timezone": timezone}
    found |= {name: value for name, value in given.items() if value is not None}
    found |= {name: None for name in _CLEARED if found.get(name) == "none"}
    if unknown := found.keys() - set(FIELDS):
        raise _wrong(min(unknown), "a schedule has no such field", f"the fields are {', '.join(FIELDS)}")
    for name in ("when", "job"):
        if name not in found:
            raise _wrong(name, "is missing", "a schedule needs a rule and a job")
    zone = _text("timezone", found["timezone"])
    made = {name: _CHECKS[name](name, value, zone) for name, value in found.items() if value is not None}
    return _consistent(Definition(**made))


def _consistent(definition: Definition) -> Definition:
    if definition.start and definition.end and definition.end < definition.start:
        raise _wrong("end", "lies before start", "give a later end, or an earlier start")
    return definition


def _when(field: str, value: Any, timezone: str) -> str:
    return recurrence.parse(_text(field, value), timezone, EARLIEST).when


def _timezone(field: str, value: Any, _: str) -> str:
    zone_named(value)
    return _text(field, value)


def _job(field: str, value: Any, _: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(field, "is not an object", "give the keys of an enqueue, such as command and queue")
    if wrong := value.keys() & OF_THE_SCHEDULE:
        raise _wrong(f"{field}.{min(wrong)}", "is set by the schedule", "leave it out")
    if not value.keys() & {"command", "argv", "payload"}:
        raise _wrong(field, "has no command", "give command (for a shell) or argv (without one)")
    template: dict[str, Any] = msgspec.to_builtins(value)  # TOML has dates, which JSON has not
    return template


def _one_of(words: tuple[str, ...]) -> Callable[[str, Any, str], str]:
    def check(field: str, value: Any, _: str) -> str:
        if value not in words:
            raise _wrong(field, f"{value!r} is not known", f"write one of {', '.join(words)}")
        return str(value)

    return check


def _duration(field: str, value: Any, _: str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise _wrong(field, f"{value!r} is not a duration", "write seconds, or units: 90, 5m, 2h30m, 1d")
    try:
        return parse_duration(value) if isinstance(value, str) else seconds(value)
    except InvalidInput as error:
        raise _wrong(field, error.message, error.hint) from error


def _moment(field: str, value: Any, timezone: str) -> datetime:
    """A moment with whole seconds. A text without a zone is a local time of the schedule."""
    try:
        moment = value if isinstance(value, datetime) else parse_instant(_text(field, value))
        aware = moment.astimezone(UTC) if moment.tzinfo else moment_of(moment, zone_named(timezone))
        return recurrence.whole(in_range(aware))
    except OverflowError as error:
        raise _wrong(field, f"{value} is out of range", "use a time from 1970 to 8999") from error
    except InvalidInput as error:
        raise (
            error if error.message.startswith(f"{field}:") else _wrong(field, error.message, error.hint)
        ) from error


def _dates(field: str, value: Any, _: str) -> tuple[date, ...]:
    """The dates in a list, or in a text: separated by commas or spaces, with comments after `#`."""
    if isinstance(value, str):
        lines = (line.partition("#")[0] for line in value.splitlines())
        value = " ".join(lines).replace(",", " ").split()
    if not isinstance(value, list | tuple) or len(value) > DAYS_OFF:
        raise _wrong(field, f"is not a list of at most {DAYS_OFF} dates", "write 2026-12-24,2026-12-25")
    return tuple(sorted({_date(field, each) for each in value}))


def _date(field: str, value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()
    except (TypeError, ValueError) as error:
        raise _wrong(field, f"{value!r} is not a date", "write year-month-day: 2026-12-24") from error


def _owner(field: str, value: Any, _: str) -> str:
    try:
        return check_name("owner", _text(field, value))
    except InvalidInput as error:
        raise _wrong(field, error.message, error.hint) from error


def check_owner(value: Any) -> str | None:
    """The owner that a file of schedules names, or None. Raises InvalidInput."""
    return None if value is None or value == "none" else _owner("owner", value, "")


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(field, f"{value!r} is not a text", "put it in quotes")
    return value


def _wrong(field: str, message: str, hint: str | None) -> InvalidInput:
    error = InvalidInput(f"{field}: {message}", hint)
    error.pointer = "/" + field.replace(".", "/")
    return error


_CHECKS: dict[str, Callable[[str, Any, str], Any]] = {
    "when": _when,
    "timezone": _timezone,
    "job": _job,
    "overlap": _one_of(get_args(Overlap)),
    "catchup": _one_of(get_args(Catchup)),
    "catchup_window": _duration,
    "jitter": _duration,
    "start": _moment,
    "end": _moment,
    "not_on": _dates,
    "owner": _owner,
}
