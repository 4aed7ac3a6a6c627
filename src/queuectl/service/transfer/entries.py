"""The import of an entry of a shared table: a setting, the settings of a queue, or a schedule."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from queuectl import config
from queuectl.domain.queue import is_sound
from queuectl.errors import CommandFailed, Conflict, InvalidInput, NotFound
from queuectl.service.changing import TRIES
from queuectl.service.transfer.segment import Foreign, Line
from queuectl.service.transfer.tally import Imported, OnConflict
from queuectl.store.protocol import Entry, Store, Swap, Table

TABLES: Mapping[str, Table] = {"setting": "settings", "queue": "queues", "schedule": "schedules"}

_NEWER = "import it with the version of queuectl that wrote it, or a later one"


class _Given(Struct, frozen=True):
    """A checked entry. `meaning` is what two entries have in common that a person calls the same."""

    name: str
    value: dict[str, Any]
    meaning: Any


def take(store: Store, line: Line, done: Imported, on_conflict: OnConflict, *, dry_run: bool) -> None:
    """Store the entry of a line, and count it. Raises Conflict under `error` if another entry is there."""
    table, given, count = TABLES[line.kind], _checked(line), done.by_kind[line.kind]
    for _ in range(TRIES):
        entry = store.read_table(table, [given.name]).get(given.name)
        present = None if entry is None or is_removed(line.kind, entry.value) else entry
        if present is not None and _meaning(line.kind, given.name, present.value) == given.meaning:
            count.existing += 1
            return
        if present is not None and on_conflict != "replace":
            _refuse(line.kind, given.name, done, on_conflict)
            return
        if dry_run or store.swap([_swap(line.kind, given, entry)]) == [True]:
            count.added += 1
            count.replaced += present is not None
            return
    raise CommandFailed(f"{line.kind} {given.name} is being changed by others", "run the same command again")


def is_removed(kind: str, value: dict[str, Any]) -> bool:
    """Whether this is what remains for a day of a schedule that was removed."""
    if kind != "schedule":
        return False
    from queuectl.domain.schedule import (
        removed_of,
    )  # imported for a schedule only: it loads the rules of time

    return removed_of(value) is not None


def _swap(kind: str, given: _Given, entry: Entry | None) -> Swap:
    """The change of an entry to the given one. A schedule does not decide again what the present one has decided."""
    version = entry.version if entry else 0
    if kind != "schedule":
        return Swap(TABLES[kind], given.name, given.value, version)
    from queuectl.domain.schedule import entry_of, imported_after, removed_of, schedule_of

    imported = schedule_of(given.name, given.value)
    assert imported is not None, "its meaning was found"
    removed = removed_of(entry.value) if entry else None
    known = schedule_of(given.name, entry.value) if entry else None
    following = imported_after(
        imported, removed.decided if removed else known.last_decided if known else None
    )
    value = given.value if following == imported else entry_of(following)
    return Swap(TABLES[kind], given.name, value, version, following.due)


def _refuse(kind: str, name: str, done: Imported, on_conflict: OnConflict) -> None:
    if on_conflict == "skip":
        done.by_kind[kind].skipped += 1
        return
    raise Conflict(f"{kind} {name} has another value in this store; {done.so_far}", RESOLVE)


RESOLVE = "--on-conflict skip keeps what this store has, replace takes what the file has"


def _checked(line: Line) -> _Given:
    name, value = line.fields.get("name"), line.fields.get("value")
    if not isinstance(name, str) or not isinstance(value, dict):
        raise Foreign(f"line {line.number}: a {line.kind} has no name or no value")
    meaning = _meaning(line.kind, name, value)
    if meaning is None:
        raise Foreign(f"line {line.number}: this program does not understand {line.kind} {name}", _NEWER)
    return _Given(name, value, meaning)


def _meaning(kind: str, name: str, value: dict[str, Any]) -> Any:
    """What is compared. None for an entry that this program does not understand."""
    if kind == "queue":
        return value if is_sound(value) else None
    if kind == "setting":
        return _setting(name, value)
    from queuectl.domain.schedule import (
        schedule_of,
    )  # imported for a schedule only: it loads the rules of time
    from queuectl.domain.schedule_definition import fields_of

    schedule = schedule_of(name, value)
    return None if schedule is None else (fields_of(schedule), schedule.paused is not None)


def _setting(name: str, value: dict[str, Any]) -> Any:
    try:
        option = config.option(name)
        return option.format(option.parse(str(value["value"])))
    except (KeyError, NotFound, InvalidInput):
        return None
