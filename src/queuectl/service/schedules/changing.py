"""Changes schedules: add, edit, pause, resume, run, remove.

A change reads the entry, applies a pure function, and swaps the entry; it starts over if another program, such as a
worker that fires the schedule, has changed the entry meanwhile.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from queuectl.config import Settings
from queuectl.domain import firing, schedule, where
from queuectl.domain.job import STATES, TERMINAL
from queuectl.domain.query import Filter, Page
from queuectl.domain.schedule import (
    REMOVED_KEPT,
    Pause,
    Removed,
    Schedule,
    entry_of,
    instant_of,
    removed_of,
    schedule_of,
)
from queuectl.domain.schedule_definition import Definition, check_schedule_name, define, fields_of
from queuectl.errors import CommandFailed, Conflict, InvalidInput, NotFound
from queuectl.service import commands, matching, operation
from queuectl.service import firing as fire
from queuectl.service.changing import TRIES, refuse_other_entry
from queuectl.service.schedules import template
from queuectl.store.protocol import Entry, Store, Swap

JOBS_LOOKED_AT = 100
"""Number of jobs in which the newest instant of a removed schedule is looked for."""
_ABSENT = Entry({}, 0)
_KEY = re.compile("[0-9a-f]{26}")
LIVING = frozenset(STATES) - TERMINAL

Rule = Callable[[Schedule, datetime], Schedule]


class Added(Struct, frozen=True):
    """The result of an add. `existing`: there was such a schedule with the same content; it is unchanged."""

    schedule: Schedule
    existing: bool = False


def define_completed(
    given: Mapping[str, Any], *, timezone: str, settings: Settings, cwd: str | None
) -> Definition:
    """The definition in these fields, with a template that is completed and checked. Raises InvalidInput."""
    definition = define(given, timezone=timezone)
    return replace(definition, job=template.completed(definition.job, settings, cwd))


def add(store: Store, name: str, definition: Definition, pause: Pause | None = None) -> Added:
    """Add a schedule. Raises Conflict if there is one of this name with other content."""
    check_schedule_name(name)
    for _ in range(TRIES):
        entry = store.read_table("schedules", [name]).get(name, _ABSENT)
        if entry is _ABSENT or removed_of(entry.value):
            last = decided(store, name, entry)
            made = schedule.new(name, definition, store.now(), pause=pause, decided=last)
            if store.swap([swap_of(made, entry.version)]) == [True]:
                return Added(made)
            continue
        known = understood(name, entry)
        # The same content added by hand is the same schedule, also if it belongs to a file.
        if fields_of(known) == fields_of(replace(definition, owner=definition.owner or known.owner)):
            return Added(known, existing=True)
        raise Conflict(
            f"there is a schedule {name} with other content",
            f"queuectl schedule show {name} shows it; queuectl schedule edit --help shows how to change it",
        )
    raise overtaken(name)


def decided(store: Store, name: str, entry: Entry) -> datetime | None:
    """The newest instant that a removed schedule of this name is known to have decided, by its entry and its jobs.

    It may lie after now if the store's clock was set back.
    """
    found = store.find(Filter(id_prefix=f"{name}:"), Page(limit=JOBS_LOOKED_AT))
    own = [job for job in found.jobs if job.spec.schedule == name]  # a person may have given an id like these
    instants = [at for job in own if (at := instant_of(job.id))]
    removed = removed_of(entry.value)
    if removed and removed.decided:
        instants.append(removed.decided)
    return max(instants, default=None)


def edit(
    store: Store,
    name: str,
    given: Mapping[str, Any],
    job: Mapping[str, Any],
    *,
    version: int | None = None,
) -> Schedule:
    """Change fields of a schedule, and keys of its template. Raises NotFound, InvalidInput, Changed."""

    def rule(known: Schedule, now: datetime) -> Schedule:
        changes = {**given, "job": template.checked(template.merged(known.job, job))} if job else given
        return schedule.edited(known, define(changes, timezone=known.timezone, base=known), now)

    return change(store, name, rule, version)


def put(store: Store, name: str, definition: Definition, version: int | None = None) -> Schedule:
    """Replace the definition of a schedule."""
    return change(store, name, lambda known, now: schedule.edited(known, definition, now), version)


def put_or_add(store: Store, name: str, definition: Definition, version: int | None = None) -> Added:
    """Replace the definition of a schedule, or add it. Raises Changed if it has another version than `version`."""
    for _ in range(TRIES):
        try:
            return Added(put(store, name, definition, version), existing=True)
        except NotFound:
            refuse_other_entry(f"schedule {name}", None, version)
        try:
            return add(store, name, definition)
        except Conflict:  # another client has added it meanwhile
            continue
    raise overtaken(name)


def pause(store: Store, name: str, *, by: str, reason: str | None = None) -> Schedule:
    """Pause a schedule. A second pause changes nothing."""
    return change(store, name, lambda known, now: schedule.paused(known, Pause(by=by, at=now, reason=reason)))


def resume(store: Store, name: str, *, catch_up: bool = False) -> Schedule:
    """Resume a schedule. `catch_up`: its catch-up policy decides the instants of the pause."""
    return change(store, name, lambda known, now: schedule.resumed(known, now, catch_up=catch_up))


def run(store: Store, name: str, key: str, *, force: bool = False) -> str:
    """Run the job of a schedule now. Returns its id. Raises NotFound; Conflict if the overlap policy refuses it.

    `key`: the end of the id, made by `make_id`. The job of a key is added once.
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"key: {key[:40]!r} is not a key of a run", "26 hex digits, the first 11 of milliseconds"
        )
    id = f"{name}:{key}"
    for _ in range(TRIES):
        entry = entry_named(store, name)
        if store.get([id]):  # read after the entry: the swap fails if the job is added meanwhile
            return id
        known, now = understood(name, entry), store.now()
        unended = fire.unended_jobs(store, [known])
        maker = template.Maker(name, known.job, template.shared_settings(store), now)
        plan = firing.run_now(known, id, now, unended, force=force)
        if plan.replaced:
            fire.replace_jobs(store, name, plan.replaced)
        jobs = fire.jobs_of(maker, plan, unended)
        made = replace(swap_of(plan.entry, entry.version), adding=jobs, telling=fire.events_of(jobs))
        if store.swap([made]) == [True]:
            fire.unblock(store, jobs)
            return id
    raise overtaken(name)


def remove(store: Store, name: str, *, version: int | None = None) -> None:
    """Remove a schedule, also one that this program does not understand. Its jobs stay. Raises NotFound."""
    for _ in range(TRIES):
        entry = entry_named(store, name)
        refuse_other_entry(f"schedule {name}", entry, version)
        if store.swap([_removal(name, entry, store.now())]) == [True]:
            return
    raise overtaken(name)


def _removal(name: str, entry: Entry, now: datetime) -> Swap:
    known = None if entry.unreadable else schedule_of(name, entry.value)
    value = msgspec.to_builtins(Removed(removed=now, decided=known.last_decided if known else None))
    return Swap("schedules", name, value, entry.version, due=now + REMOVED_KEPT)


def cancel_jobs(store: Store, name: str, *, by: str) -> int:
    """Cancel the jobs of a schedule that have not ended. Returns the number of changed jobs."""
    wanted = operation.among(where.parse(where.term("schedule", name), store.now()), LIVING)
    steps = (
        commands.cancel(store, ids, by=by, reason=removal_reason(name))
        for ids in matching.select(store, wanted)
    )
    return sum(each.changed for changes in steps for each in changes)


def removal_reason(name: str) -> str:
    """The reason that is stored with the jobs that are cancelled with their schedule."""
    return f"schedule {name} is removed"


def change(store: Store, name: str, rule: Rule, version: int | None = None) -> Schedule:
    """Apply a rule to a schedule. Returns the schedule as stored now."""
    for _ in range(TRIES):
        entry = entry_named(store, name)
        refuse_other_entry(f"schedule {name}", entry, version)
        known = understood(name, entry)
        changed = rule(known, store.now())
        if changed == known or store.swap([swap_of(changed, entry.version)]) == [True]:
            return changed
    raise overtaken(name)


def swap_of(changed: Schedule, version: int) -> Swap:
    """The change of an entry to this schedule."""
    return Swap("schedules", changed.name, entry_of(changed), version, due=changed.due)


def entry_named(store: Store, name: str) -> Entry:
    """The entry of a schedule. Raises NotFound."""
    entry = store.read_table("schedules", [name]).get(name)
    if entry is None or removed_of(entry.value):
        raise unknown(name)
    return entry


def unknown(name: str) -> NotFound:
    """The error for a name that no schedule has."""
    return NotFound(f"there is no schedule {name!r}", "queuectl schedule list shows the schedules")


def understood(name: str, entry: Entry) -> Schedule:
    """The schedule of an entry. Raises CommandFailed if it is damaged, or of a newer program."""
    known = None if entry.unreadable else schedule_of(name, entry.value)
    if known is None:
        raise CommandFailed(
            f"schedule {name} cannot be read: it is damaged, or a newer queuectl wrote it",
            f"use that version; or, to delete it: queuectl schedule remove {name}",
        )
    return known


def overtaken(name: str) -> CommandFailed:
    """The error after too many lost races."""
    return CommandFailed(f"schedule {name} is being changed by others", "run the same command again")
