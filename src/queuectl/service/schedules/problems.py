"""The schedules that need a person: late, failed, with a time zone that this host does not know, or unreadable."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from queuectl.domain.instant import format_age
from queuectl.domain.schedule import Schedule, removed_of, schedule_of
from queuectl.domain.zone import zone_named
from queuectl.errors import InvalidInput
from queuectl.service.maintenance import PROBE
from queuectl.service.status import Attention
from queuectl.store.protocol import Entry

LATE = timedelta(seconds=60)
"""A worker fires a schedule within seconds. After this time a person has to act."""
NAMED = 5
"""Maximum number of problems that are listed. One more line counts the others."""


def problems(entries: Mapping[str, Entry], now: datetime) -> list[Attention]:
    """The problems of these entries of the table of schedules."""
    found = [
        thing
        for name, entry in sorted(entries.items())
        if name != PROBE and not removed_of(entry.value)
        for thing in _problems(name, entry, now)
    ]
    if len(found) <= NAMED:
        return found
    more = Attention(
        "schedule", f"and {len(found) - NAMED} more problems of schedules", "queuectl schedule list"
    )
    return [*found[:NAMED], more]


def _problems(name: str, entry: Entry, now: datetime) -> Iterator[Attention]:
    schedule = None if entry.unreadable else schedule_of(name, entry.value)
    if schedule is None:
        text = f"schedule {name} cannot be read: it is damaged, or a newer queuectl wrote it"
        yield Attention("schedule", text, f"queuectl schedule remove {name}")
        return
    if (due := schedule.due) is not None and now - due > LATE:
        text = f"schedule {name} is late: it is due for {format_age(now - due)}, and no worker has fired it"
        yield Attention("schedule", text, "queuectl worker start")
    if (failed := _failure(schedule)) is not None:
        yield Attention("schedule", f"schedule {name} failed: {failed}", f"queuectl schedule history {name}")
    if not _knows_zone(schedule.timezone):
        text = f"schedule {name} has the time zone {schedule.timezone}, which this host does not know"
        yield Attention("schedule", text, "install tzdata; workers of this host leave the schedule to others")


def _failure(schedule: Schedule) -> str | None:
    """Why the newest instant failed; None if it did not fail."""
    newest = schedule.decisions[-1:]
    return newest[0].reason if newest and newest[0].decision == "failed" else None


def _knows_zone(name: str) -> bool:
    try:
        zone_named(name)
    except InvalidInput:
        return False
    return True
