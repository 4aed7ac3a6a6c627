"""The implementation of `Schedules` on a store. `api.py` documents the methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.ids import make_id
from queuectl.domain.schedule import Pause, Schedule
from queuectl.domain.schedule_definition import check_schedule_name
from queuectl.domain.schedule_difference import Difference
from queuectl.domain.schedule_file import ScheduleFile
from queuectl.service.request.spec import working_directory
from queuectl.service.schedules import changing, files, reading
from queuectl.service.schedules.changing import Added
from queuectl.service.schedules.reading import NEXT, Decided, ScheduleStatus
from queuectl.store.protocol import Store

if TYPE_CHECKING:
    from queuectl.service.schedules.api import Schedules

SHOWN = 20


class LocalSchedules:
    """The `Schedules` of a store.

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

    def all(self) -> tuple[Sequence[ScheduleStatus], Sequence[str]]:
        return reading.every(self._store)

    def show(self, name: str, count: int = NEXT) -> ScheduleStatus:
        return reading.one(self._store, name, count)

    def history(self, name: str, limit: int = SHOWN) -> Sequence[Decided]:
        return reading.history(self._store, name, limit)

    def add(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        timezone: str,
        paused: bool = False,
        by: str | None = None,
    ) -> Added:
        definition = changing.define_completed(
            given, timezone=timezone, settings=self._settings(), cwd=working_directory()
        )
        check_schedule_name(name)
        store = self._created()
        pause = Pause(by=by or self._user(), at=store.now()) if paused else None
        return changing.add(store, name, definition, pause)

    def edit(
        self, name: str, given: Mapping[str, Any], job: Mapping[str, Any], *, version: int | None = None
    ) -> Schedule:
        return changing.edit(self._store, name, given, job, version=version)

    def put(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        timezone: str,
        version: int | None = None,
        by: str | None = None,  # noqa: ARG002 - an entry has no author
    ) -> Added:
        definition = changing.define_completed(
            given, timezone=timezone, settings=self._settings(), cwd=working_directory()
        )
        check_schedule_name(name)
        return changing.put_or_add(self._created(), name, definition, version)

    def pause(self, name: str, *, reason: str | None = None, by: str | None = None) -> Schedule:
        return changing.pause(self._store, name, by=by or self._user(), reason=reason)

    def resume(self, name: str, *, catch_up: bool = False) -> Schedule:
        return changing.resume(self._store, name, catch_up=catch_up)

    def run(self, name: str, *, force: bool = False, key: str | None = None) -> str:
        made = key or make_id(self._store.now(), int.from_bytes(random_bytes(8)) >> 5)
        return changing.run(self._store, name, made, force=force)

    def remove(
        self, name: str, *, cancel: bool = False, by: str | None = None, version: int | None = None
    ) -> int:
        changing.remove(self._store, name, version=version)
        return changing.cancel_jobs(self._store, name, by=by or self._user()) if cancel else 0

    def compare(self, document: Mapping[str, Any], *, timezone: str, prune: bool = False) -> Difference:
        return files.compare(self._store, self._file(document, timezone), prune=prune)

    def apply(
        self, document: Mapping[str, Any], *, timezone: str, prune: bool = False, by: str | None = None
    ) -> Difference:
        file = self._file(document, timezone)
        return files.apply(self._created(), file, prune=prune, by=by or self._user())

    def named(self, names: Sequence[str]) -> Sequence[Schedule]:
        return files.named(self._store, names)

    def _file(self, document: Mapping[str, Any], timezone: str) -> ScheduleFile:
        return files.completed_file(
            document, timezone=timezone, settings=self._settings(), cwd=working_directory()
        )


if TYPE_CHECKING:
    _keeps_the_contract: type[Schedules] = LocalSchedules
