"""Reads hooks."""

from msgspec import Struct

from queuectl.domain.hook import Hook, hook_of, is_removed
from queuectl.service.hooks.changing import entry_named, understood
from queuectl.store.protocol import Store


class HookStatus(Struct, frozen=True):
    """A hook, and the version of its entry."""

    hook: Hook
    version: int


def every(store: Store) -> tuple[list[HookStatus], list[str]]:
    """All hooks by name, and the names of the entries that this program cannot read."""
    known, unreadable = list[HookStatus](), list[str]()
    for name, entry in sorted(store.read_table("hooks").items()):
        if is_removed(entry.value):
            continue
        hook = None if entry.unreadable else hook_of(name, entry.value)
        if hook:
            known.append(HookStatus(hook, entry.version))
        else:
            unreadable.append(name)
    return known, unreadable


def one(store: Store, name: str) -> HookStatus:
    """One hook. Raises NotFound."""
    entry = entry_named(store, name)
    return HookStatus(understood(name, entry), entry.version)
