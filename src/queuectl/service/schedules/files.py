"""Files of schedules: apply one, compare one with the store, write one.

All entries of a file are checked before the first is written. An apply that was interrupted is completed by the same
apply.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from queuectl.config import Settings
from queuectl.domain.schedule import Pause, Schedule
from queuectl.domain.schedule_difference import Difference, difference
from queuectl.domain.schedule_file import FileEntry, ScheduleFile, check_file
from queuectl.errors import InvalidInput
from queuectl.service.schedules import changing, reading, template
from queuectl.store.protocol import Store


def completed_file(
    document: Mapping[str, Any], *, timezone: str, settings: Settings, cwd: str | None
) -> ScheduleFile:
    """The schedules of a document, checked, with completed templates. Raises InvalidInput that names the schedule."""
    file = check_file(document, timezone=timezone)
    entries = {name: _completed(name, entry, settings, cwd) for name, entry in file.entries.items()}
    return replace(file, entries=entries)


def _completed(name: str, entry: FileEntry, settings: Settings, cwd: str | None) -> FileEntry:
    definition = entry.definition
    try:
        job = template.completed(definition.job, settings, cwd)
    except InvalidInput as error:
        raise InvalidInput(f"schedule.{name}: {error.message}", error.hint) from error
    return replace(entry, definition=replace(definition, job=job))


def compare(store: Store, file: ScheduleFile, *, prune: bool = False) -> Difference:
    """What an apply of the file would do."""
    return difference(file, _stored(store), prune=prune)


def apply(store: Store, file: ScheduleFile, *, prune: bool = False, by: str) -> Difference:
    """Make the stored schedules equal to the file. A schedule that a person paused stays paused."""
    found = compare(store, file, prune=prune)
    for name in found.added:
        entry = file.entries[name]
        pause = Pause(by=by, at=store.now()) if entry.paused else None
        changing.add(store, name, entry.definition, pause)
    for name in found.changed:
        changing.put(store, name, file.entries[name].definition)
    for name in found.removed:
        changing.remove(store, name)
    return found


def named(store: Store, names: Sequence[str]) -> list[Schedule]:
    """The schedules with these names; all without names. Raises NotFound."""
    return chosen(_stored(store), names)


def chosen(stored: Mapping[str, Schedule], names: Sequence[str]) -> list[Schedule]:
    """The schedules with these names; all without names. Raises NotFound."""
    for name in names:
        if name not in stored:
            raise changing.unknown(name)
    return [stored[name] for name in dict.fromkeys(names or stored)]


def _stored(store: Store) -> dict[str, Schedule]:
    known, _ = reading.stored(store)
    return {schedule.name: schedule for schedule, _ in known}
