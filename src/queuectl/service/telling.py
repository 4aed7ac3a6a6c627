"""Decides which events are told, and says in each event who made the change. Applied between the service and the store.

The functions of the service and the worker give each change its event, without regard to the setting `events` and
without knowing the actor. `telling` returns a store that leaves out the unwanted events and fills in the actor.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, cast

from msgspec.structs import replace

from queuectl.clock import boottime
from queuectl.config import Settings
from queuectl.domain.event import NOBODY, Actor, Event, Kind
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.store.protocol import Added, Saved, Store, Swap

Setting = Literal["all", "ends", "none"]
"""The values of the setting `events`."""

ENDS: frozenset[Kind] = frozenset(("job.completed", "job.failed", "job.dead", "job.cancelled", "job.lost"))
"""The events of `ends`: a job has ended, or an attempt of it."""


GOOD_FOR = 5.0
"""Seconds for which a queue uses the setting `events` that it has read."""


def telling(
    store: Store, setting: Callable[[], Setting], actor: Callable[[], Actor] = lambda: NOBODY
) -> Store:
    """The same store, which writes the events that `setting` allows, with this actor."""
    return cast(Store, _TellingStore(store, setting, actor))


def acting(store: Store, actor: Actor) -> Store:
    """The same store for another actor. A store without `telling` is returned as it is."""
    if isinstance(store, _TellingStore):
        return telling(store.plain, store.setting, lambda: actor)
    return store


class _TellingStore:
    def __init__(self, store: Store, setting: Callable[[], Setting], actor: Callable[[], Actor]) -> None:
        self.plain, self.setting, self._actor = store, setting, actor

    def __getattr__(self, verb: str) -> Any:
        """The verbs that tell nothing."""
        return getattr(self.plain, verb)

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        return self.plain.add(jobs, self._wanted(events))

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        return self.plain.save(jobs, self._wanted(events))

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        return self.plain.swap(
            [replace(each, telling=self._wanted(each.telling)) if each.telling else each for each in swaps]
        )

    def claim(
        self, worker: str, queues: Sequence[str], limit: int, lease: timedelta, *, tell: bool = False
    ) -> list[Job]:
        return self.plain.claim(worker, queues, limit, lease, tell=tell and self.setting() == "all")

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        actor = self._actor() if tell is not None and self.setting() == "all" else None
        return self.plain.purge(wanted, limit, tell=actor)

    def _wanted(self, events: Sequence[Event | None]) -> tuple[Event | None, ...]:
        """The events that are written, with their actor. Empty if there are none."""
        setting = self.setting() if any(events) else "none"
        if setting == "none":
            return ()
        actor = self._actor()
        found = [event if event and (setting == "all" or event.event in ENDS) else None for event in events]
        if actor is not NOBODY:
            found = [event and replace(event, by=actor.by, via=actor.via) for event in found]
        return tuple(found) if any(found) else ()


class EventsSetting:
    """The setting `events`, as the queue has read it. It is read again when it is older than `GOOD_FOR` seconds."""

    def __init__(self, read: Callable[[], Settings]) -> None:
        self._read, self._read_at = read, -GOOD_FOR
        self._value: Setting = "all"

    def __call__(self) -> Setting:
        if boottime() - self._read_at > GOOD_FOR:
            self._read()
        return self._value

    def note(self, settings: Settings) -> None:
        """Take the value from settings that were just read."""
        self._value, self._read_at = settings.events, boottime()


def user_and_host() -> str:
    """Who runs this program, as `user@host`."""
    import pwd

    user = os.environ.get("LOGNAME") or os.environ.get("USER")
    if not user:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # the user id has no name, as in many containers
            user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"
