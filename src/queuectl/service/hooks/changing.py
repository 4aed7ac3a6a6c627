"""Changes hooks: add, replace, pause, resume, remove, test.

A change reads the entry, applies a pure function, and swaps the entry; it starts over if another program, such as a
worker that adds jobs for events, has changed the entry meanwhile.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.event import Event, Kind, between
from queuectl.domain.hook import (
    Definition,
    Hook,
    Pause,
    Removed,
    check_hook_name,
    definition_of,
    entry_of,
    hook_of,
    is_removed,
)
from queuectl.domain.job import State
from queuectl.errors import CommandFailed, Conflict, InvalidInput, NotFound
from queuectl.service.changing import TRIES, refuse_other_entry
from queuectl.service.events import kinds_of
from queuectl.service.hooks.jobs import Maker
from queuectl.service.hooks.switch import refuse_unwritten
from queuectl.service.schedules.template import shared_settings
from queuectl.store.protocol import Entry, Store, Swap

_ABSENT = Entry({}, 0)
_SAMPLES: dict[Kind, tuple[State, State | None]] = {
    "job.enqueued": ("pending", None),
    "job.blocked": ("blocked", None),
    "job.held": ("held", "pending"),
    "job.released": ("pending", "held"),
    "job.started": ("processing", "pending"),
    "job.failed": ("failed", "processing"),
    "job.completed": ("completed", "processing"),
    "job.dead": ("dead", "processing"),
    "job.cancelled": ("cancelled", "pending"),
    "job.cancel_requested": ("processing", "processing"),
    "job.retried": ("pending", "dead"),
    "job.deleted": ("dead", "dead"),
}
"""For each kind of event, the states of a test event after and before the change. The default is `pending` and
`processing`.
"""


class Added(Struct, frozen=True):
    """The result of an add. `existing`: there was a hook of this name."""

    hook: Hook
    existing: bool = False


class Applied(Struct, frozen=True):
    """What an apply of a file did, or would do: the names of the hooks."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def add(store: Store, name: str, definition: Definition) -> Added:
    """Add a hook for the events from now on. Raises Conflict if there is one of this name with other content."""
    return _stored(store, name, definition, refuse_other)


def put(store: Store, name: str, definition: Definition, version: int | None = None) -> Added:
    """Add a hook, or replace the definition of the one of this name, whose cursor and counts stay."""
    return _stored(store, name, definition, lambda known: known, version)


def _stored(
    store: Store,
    name: str,
    definition: Definition,
    check: Callable[[Hook], Hook],
    version: int | None = None,
) -> Added:
    check_hook_name(name)
    for _ in range(TRIES):
        entry = store.read_table("hooks", [name]).get(name, _ABSENT)
        known = None if entry is _ABSENT or is_removed(entry.value) else understood(name, entry)
        if known and definition_of(known) == definition_of(definition):
            return Added(
                known, existing=True
            )  # also in another version: the reply to the same put may be lost
        refuse_other_entry(f"hook {name}", entry if known else None, version)
        refuse_unwritten(definition.on, shared_settings(store).events)
        made = replace(check(known), **definition_of(definition)) if known else _new(store, name, definition)
        if store.swap([Swap("hooks", name, entry_of(made), entry.version)])[0]:
            return Added(made, existing=known is not None)
    raise _overtaken(name)


def _new(store: Store, name: str, definition: Definition) -> Hook:
    return Hook(
        **definition_of(definition), name=name, cursor=store.event_cursor(None), created_at=store.now()
    )


def refuse_other(known: Hook) -> Hook:
    """Raise Conflict, because there is this hook with other content."""
    raise Conflict(
        f"there is a hook {known.name} with other content",
        f"queuectl hook show {known.name} shows it; to replace it: queuectl hook remove {known.name}",
    )


def differing(known: Mapping[str, Hook], wanted: Mapping[str, Definition]) -> Applied:
    """Which of these hooks an apply adds and replaces."""
    added = [name for name in wanted if name not in known]
    same = [
        name for name in wanted if name in known and definition_of(known[name]) == definition_of(wanted[name])
    ]
    changed = [name for name in wanted if name in known and name not in same]
    return Applied(tuple(added), tuple(changed), tuple(same))


def apply(store: Store, wanted: Mapping[str, Definition], *, dry_run: bool = False) -> Applied:
    """Add and replace hooks. Other hooks stay. Returns what was changed, or would be changed."""
    entries = store.read_table("hooks", list(wanted))
    known = {name: understood(name, each) for name, each in entries.items() if not is_removed(each.value)}
    found = differing(known, wanted)
    for name in () if dry_run else (*found.added, *found.changed):
        put(store, name, wanted[name])
    return found


def pause(store: Store, name: str, *, by: str, reason: str | None = None) -> Hook:
    """Pause a hook: it adds no jobs. A second pause changes nothing."""

    def rule(known: Hook, now: datetime) -> Hook:
        return known if known.paused else replace(known, paused=Pause(by=by, at=now, reason=reason))

    return _change(store, name, rule)


def resume(store: Store, name: str, *, skip: bool = False) -> Hook:
    """Resume a hook. It goes on with the events of the pause; `skip`: with those from now on."""

    def rule(known: Hook, _: datetime) -> Hook:
        if known.paused is None:
            return known
        return replace(known, paused=None, cursor=store.event_cursor(None) if skip else known.cursor)

    return _change(store, name, rule)


def remove(store: Store, name: str, *, version: int | None = None) -> None:
    """Remove a hook, also one that this program does not understand. Its jobs stay. Raises NotFound."""
    for _ in range(TRIES):
        entry = entry_named(store, name)
        refuse_other_entry(f"hook {name}", entry, version)
        value = msgspec.to_builtins(Removed(removed=store.now()))
        if store.swap([Swap("hooks", name, value, entry.version)])[0]:
            return
    raise _overtaken(name)


def add_test(store: Store, name: str, key: str, given: Mapping[str, Any] | None = None) -> str:
    """Add the job of a hook for a made-up event, or for a given one. Returns its id. Raises NotFound, InvalidInput.

    `key`: the end of the id. The job of a key is added once. A paused hook is tested too.
    """
    hook = understood(name, entry_named(store, name))
    now, cursor = store.now(), f"test-{key}"
    event = _sample(hook.on[0], now) if given is None else event_in(given, now)
    about = store.get([event.job]).get(event.job)
    job = Maker(hook, shared_settings(store), now).job(hook.job_id(cursor), cursor, event, about)
    store.add([job], [between(None, job)])
    return job.id


def event_in(given: Mapping[str, Any], now: datetime) -> Event:
    """The event in a document. Fields that are left out have the values of a made-up event. Raises InvalidInput."""
    fields = {name: value for name, value in given.items() if name not in ("schema", "id")}
    [kind] = kinds_of(str(fields.get("event", "dead")).replace(",", " "))
    if unknown := fields.keys() - set(Event.__struct_fields__):
        raise InvalidInput(f"event: an event has no field {min(unknown)!r}")
    sample = msgspec.to_builtins(_sample(kind, now))
    try:
        return msgspec.convert({**sample, **fields, "event": kind}, Event)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"event: {error}") from error


def _sample(kind: Kind, now: datetime) -> Event:
    state, before = _SAMPLES.get(kind, ("pending", "processing"))
    ended = kind in ("job.failed", "job.dead")
    return Event(
        event=kind,
        at=now,
        job="test",
        queue="default",
        state=state,
        before=before,
        attempt=1 if before == "processing" else None,
        exit_code=1 if ended else 0 if kind == "job.completed" else None,
    )


def entry_named(store: Store, name: str) -> Entry:
    """The entry of a hook. Raises NotFound."""
    entry = store.read_table("hooks", [name]).get(name)
    if entry is None or is_removed(entry.value):
        raise unknown(name)
    return entry


def unknown(name: str) -> NotFound:
    """The error for a name that no hook has."""
    return NotFound(f"there is no hook {name!r}", "queuectl hook list shows the hooks")


def understood(name: str, entry: Entry) -> Hook:
    """The hook of an entry. Raises CommandFailed if it is damaged, or of a newer program."""
    known = None if entry.unreadable else hook_of(name, entry.value)
    if known is None:
        raise CommandFailed(
            f"hook {name} cannot be read: it is damaged, or a newer queuectl wrote it",
            f"use that version; or, to delete it: queuectl hook remove {name}",
        )
    return known


def _change(store: Store, name: str, rule: Callable[[Hook, datetime], Hook]) -> Hook:
    for _ in range(TRIES):
        entry = entry_named(store, name)
        known = understood(name, entry)
        changed = rule(known, store.now())
        if changed == known or store.swap([Swap("hooks", name, entry_of(changed), entry.version)])[0]:
            return changed
    raise _overtaken(name)


def _overtaken(name: str) -> CommandFailed:
    return CommandFailed(f"hook {name} is being changed by others", "run the same command again")
