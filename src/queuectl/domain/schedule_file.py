"""A file of schedules: TOML, or JSON with the same keys. Reads one, checking all of it first, and writes one.

    owner = "ops"

    [schedule.backup]
    when = "30 2 * * *"
    timezone = "Europe/Berlin"
    command = "make backup"
    catchup_window = "2d"

A table contains the fields of a schedule (`schedule_definition.FIELDS`) and `paused`. Every other key belongs to the
job, as do the keys of a table `job`. `jitter` is that of the schedule, so the jitter of retries is `job.jitter`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from queuectl.domain.quantity import format_duration
from queuectl.domain.schedule import Schedule
from queuectl.domain.schedule_definition import (
    FIELDS,
    Definition,
    check_owner,
    check_schedule_name,
    define,
    fields_of,
)
from queuectl.errors import InvalidInput

SCHEDULES = 10_000
"""How many schedules a file may have."""
_ALWAYS = ("when", "timezone")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_DEFAULTS = fields_of(Definition(when="", timezone="", job={}))


class FileEntry(Struct, frozen=True, kw_only=True):
    """A schedule of a file. `paused`: whether it is added paused; a later apply neither pauses nor resumes it."""

    definition: Definition
    paused: bool = False


class ScheduleFile(Struct, frozen=True, kw_only=True):
    """The content of a file, checked. `owner`: the owner of all schedules that name no other one."""

    owner: str | None
    entries: dict[str, FileEntry]


def parse_toml(text: str) -> dict[str, Any]:
    """The document in a text. Raises InvalidInput with the line."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"the file is not TOML: {error}", "see queuectl schedule export for the form"
        ) from error


def check_file(document: Mapping[str, Any], *, timezone: str) -> ScheduleFile:
    """The schedules of a document of TOML or JSON, each checked. `timezone`: for schedules that name none.

    The keys of jobs are not checked: the caller checks each `definition.job` as a request. Raises InvalidInput that
    names the schedule and the field.
    """
    if unknown := document.keys() - {"owner", "schedule"}:
        raise InvalidInput(
            f"{min(unknown)}: a file of schedules has no such key", "it has owner and [schedule.NAME]"
        )
    tables = document.get("schedule") or {}
    if not isinstance(tables, Mapping) or len(tables) > SCHEDULES:
        raise InvalidInput(
            f"schedule: is not a table of at most {SCHEDULES} schedules", "write [schedule.NAME]"
        )
    owner = check_owner(document.get("owner"))
    return ScheduleFile(
        owner=owner, entries={name: _entry(name, table, owner, timezone) for name, table in tables.items()}
    )


def _entry(name: str, table: Any, owner: Any, timezone: str) -> FileEntry:
    try:
        check_schedule_name(name)
        if not isinstance(table, Mapping):
            raise InvalidInput("is not a table", f"write [schedule.{name}]")
        given = {"owner": owner} | _fields(table)
        return FileEntry(definition=define(given, timezone=timezone), paused=_paused(table))
    except InvalidInput as error:
        named = InvalidInput(f"schedule.{name[:80]}: {error.message}", error.hint)
        named.pointer = f"/schedule/{name}{error.pointer or ''}"
        raise named from error


def _fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a schedule in a table, with the keys of the job put together."""
    nested = table.get("job") or {}
    if not isinstance(nested, Mapping):
        raise InvalidInput("job: is not a table", "give the keys of an enqueue, such as command and queue")
    flat = {key: value for key, value in table.items() if key not in FIELDS and key != "paused"}
    if twice := flat.keys() & nested.keys():
        raise InvalidInput(f"{min(twice)}: is given twice", f"give it here or as job.{min(twice)}")
    return {key: value for key, value in table.items() if key in FIELDS} | {"job": {**flat, **nested}}


def _paused(table: Mapping[str, Any]) -> bool:
    value = table.get("paused")
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"paused: {value!r} is not true or false")
    return bool(value)


def document_of(file: ScheduleFile) -> dict[str, Any]:
    """The document of JSON with this content. `check_file` reads it as the same content in any time zone."""
    tables = {
        name: {
            **fields_shown(entry.definition),
            "owner": entry.definition.owner or "none",
            "paused": entry.paused,
        }
        for name, entry in file.entries.items()
    }
    return {"owner": file.owner or "none", "schedule": tables}


def fields_shown(definition: Definition) -> dict[str, Any]:
    """The fields of a definition that are set, as JSON values."""
    return {name: shown(value) for name, value in fields_of(definition).items() if value is not None}


def export(schedules: Iterable[Schedule]) -> str:
    """A file of schedules. An owner that all have stands at its head."""
    entries = {each.name: FileEntry(definition=each, paused=each.paused is not None) for each in schedules}
    owners = {entry.definition.owner for entry in entries.values()}
    owner = owners.pop() if len(owners) == 1 else None
    head = [f"owner = {_text(owner)}\n"] if owner else []
    return "\n".join([*head, *(write_table(name, entry, owner) for name, entry in entries.items())])


def write_table(name: str, entry: FileEntry, owner: str | None = None) -> str:
    """The table of one schedule. Fields with their default, and the owner of the file, are left out."""
    return toml_table("schedule", name, dict(_shown(entry, owner)))


def toml_table(kind: str, name: str, fields: Mapping[str, Any]) -> str:
    """A table `[KIND.NAME]` of a TOML file with these fields, whose keys are written as they are."""
    lines = [f"{key} = {_value(value)}" for key, value in fields.items()]
    return "\n".join([f"[{kind}.{_key(name)}]", *lines, ""])


def _shown(entry: FileEntry, owner: str | None) -> Iterator[tuple[str, Any]]:
    fields = fields_of(entry.definition)
    job = fields.pop("job")
    defaults = _DEFAULTS | {"owner": owner}
    for name, value in fields.items():
        if name in _ALWAYS or (value != defaults[name] and value is not None):
            yield name, shown(value)
    if entry.paused:
        yield "paused", True
    for key, value in job.items():
        if value is not None:
            yield f"job.{_key(key)}" if key in FIELDS or key == "paused" else _key(key), value


def shown(value: Any) -> Any:
    """The value of a field as it is written in a file: durations, moments and dates are texts."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, date):
        return value.isoformat()
    return [shown(each) for each in value] if isinstance(value, tuple) else value


def _value(value: Any) -> str:
    """A value of JSON as TOML, which has no null: a key with null is left out, and null in a list is refused."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if value is None:
        raise InvalidInput("a list contains null, which TOML cannot express", "export this schedule as JSON")
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """A string of TOML: that of JSON, with DEL escaped too."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
