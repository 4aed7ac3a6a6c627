"""The difference between a file of schedules and the stored schedules, and the lines that show it."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from queuectl.domain.schedule import Schedule
from queuectl.domain.schedule_definition import Definition, fields_of
from queuectl.domain.schedule_file import ScheduleFile, shown
from queuectl.errors import InvalidInput


class FieldChange(Struct, frozen=True):
    """A field with its stored and its new value, as a file shows them; None if it is not set."""

    field: str
    old: Any
    new: Any


class Difference(Struct, frozen=True, kw_only=True):
    """What an apply of a file does: names of schedules, and for a changed one its fields.

    removed: stored schedules of the owner of the file that the file does not contain.
    """

    added: tuple[str, ...] = ()
    changed: dict[str, tuple[FieldChange, ...]] = {}
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether an apply changes nothing."""
        return not (self.added or self.changed or self.removed)

    def lines(self) -> Iterator[str]:
        """The difference for people: `+` added, `~` changed, `-` removed, `=` the number of unchanged ones."""
        yield from (f"+ {name}" for name in self.added)
        for name, changes in self.changed.items():
            for each in changes:
                yield f"~ {name} {each.field}: {_text(each.old)} → {_text(each.new)}"
        yield from (f"- {name}" for name in self.removed)
        yield f"= {len(self.unchanged)} unchanged"


def difference(file: ScheduleFile, stored: Mapping[str, Schedule], *, prune: bool = False) -> Difference:
    """Compare a file with the stored schedules. `prune`: schedules of the same owner that it does not contain go.

    Raises InvalidInput for `prune` without an owner: then schedules that a person added would go.
    """
    if prune and file.owner is None:
        raise InvalidInput("--prune needs an owner in the file", 'write owner = "NAME" at its head')
    compared = {
        name: changes(stored[name], entry.definition)
        for name, entry in file.entries.items()
        if name in stored
    }
    return Difference(
        added=tuple(name for name in file.entries if name not in stored),
        changed={name: found for name, found in compared.items() if found},
        removed=tuple(
            name
            for name, each in stored.items()
            if prune and each.owner == file.owner and name not in file.entries
        ),
        unchanged=tuple(name for name, found in compared.items() if not found),
    )


def changes(old: Definition, new: Definition) -> tuple[FieldChange, ...]:
    """The fields that differ. Each key of the job is a field of its own, `job.KEY`."""
    before, after = _flat(old), _flat(new)
    names = dict.fromkeys([*before, *after])
    return tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _flat(definition: Definition) -> dict[str, Any]:
    fields = fields_of(definition)
    job = fields.pop("job")
    return {name: shown(value) for name, value in fields.items()} | {f"job.{key}": job[key] for key in job}


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return value if isinstance(value, str) and value.isprintable() else msgspec.json.encode(value).decode()
