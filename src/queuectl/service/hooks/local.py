"""The implementation of `Hooks` on a store. `api.py` documents the methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.hook import Definition, Hook, check_hook_name
from queuectl.domain.ids import make_id
from queuectl.errors import InvalidInput
from queuectl.service.hooks import changing, definition, reading
from queuectl.service.hooks.changing import Added, Applied
from queuectl.service.hooks.reading import HookStatus
from queuectl.service.request.spec import working_directory
from queuectl.store.protocol import Store

if TYPE_CHECKING:
    from queuectl.service.hooks.api import Hooks

KEY_LONGEST = 26


class LocalHooks:
    """The `Hooks` of a store.

    created   returns the store, and creates a missing one
    settings  the settings of this client
    user      the name of this user
    """

    def __init__(
        self,
        store: Store,
        created: Callable[[], Store],
        settings: Callable[[], Settings],
        user: Callable[[], str],
    ) -> None:
        self._store, self._created, self._settings, self._user = store, created, settings, user

    def all(self) -> tuple[Sequence[HookStatus], Sequence[str]]:
        return reading.every(self._store)

    def show(self, name: str) -> HookStatus:
        return reading.one(self._store, name)

    def add(self, name: str, given: Mapping[str, Any]) -> Added:
        made = self._defined(name, given)  # before the store: a refused hook creates none
        return changing.add(self._created(), name, made)

    def put(self, name: str, given: Mapping[str, Any], *, version: int | None = None) -> Added:
        made = self._defined(name, given)
        return changing.put(self._created(), name, made, version)

    def pause(self, name: str, *, reason: str | None = None, by: str | None = None) -> Hook:
        return changing.pause(self._store, name, by=by or self._user(), reason=reason)

    def resume(self, name: str, *, skip: bool = False) -> Hook:
        return changing.resume(self._store, name, skip=skip)

    def test(self, name: str, event: Mapping[str, Any] | None = None, *, key: str | None = None) -> str:
        made = key or make_id(self._store.now(), int.from_bytes(random_bytes(8)) >> 5)
        if len(made) > KEY_LONGEST or not made.isalnum() or not made.isascii():
            raise InvalidInput(f"key: {made[:40]!r} is not a key of a test", "at most 26 letters and digits")
        return changing.add_test(self._store, name, made, event)

    def remove(self, name: str, *, version: int | None = None) -> None:
        changing.remove(self._store, name, version=version)

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Applied:
        settings, cwd = self._settings(), working_directory()
        wanted = definition.named_definitions(document, settings=settings, cwd=cwd)
        return changing.apply(self._store if dry_run else self._created(), wanted, dry_run=dry_run)

    def _defined(self, name: str, given: Mapping[str, Any]) -> Definition:
        check_hook_name(name)
        return definition.define(given, settings=self._settings(), cwd=working_directory())


if TYPE_CHECKING:
    _keeps_the_contract: type[Hooks] = LocalHooks
