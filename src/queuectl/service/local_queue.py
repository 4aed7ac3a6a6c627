"""The implementation of `Queue` on a store that this process opens. `queue.py` documents the methods.

Modules are imported where they are used, so that a short command loads only what its one call needs.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from queuectl import config
from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.event import Actor
from queuectl.domain.job import Job
from queuectl.domain.query import Counts, Filter, Found, Page
from queuectl.errors import InvalidInput, StoreAbsent
from queuectl.service import enqueueing
from queuectl.service.enqueueing import Enqueued, Enqueuer
from queuectl.service.local_figures import LocalFigures
from queuectl.service.local_operations import LocalOperations
from queuectl.service.local_tables import LocalTables
from queuectl.service.request.fields import JobRequest
from queuectl.service.request.spec import Defaults, working_directory
from queuectl.service.settings import Sources
from queuectl.service.telling import EventsSetting, telling, user_and_host
from queuectl.store.protocol import Description, Entry, Store

if TYPE_CHECKING:
    from queuectl.domain.queue import QueueChange
    from queuectl.domain.token import Issued, Token
    from queuectl.service.changing import Change
    from queuectl.service.consumption import Vitals
    from queuectl.service.doctor import Check
    from queuectl.service.events import Events
    from queuectl.service.explain import Explanation
    from queuectl.service.following import Output, Part, Position
    from queuectl.service.matching import Wanted
    from queuectl.service.operation import Operation, Selection
    from queuectl.service.queue import Queue
    from queuectl.service.queue_status import QueueStatus
    from queuectl.service.registry import Silence
    from queuectl.service.status import Status
    from queuectl.service.transfer.running import Transfer
    from queuectl.service.worker_status import WorkerStatus


class LocalQueue(LocalOperations, LocalFigures, LocalTables):
    """A `Queue` on a store.

    entries     the store's settings, if they were read just now; used once
    create      creates the store and returns it; None if the store exists, or must not be created
    own_clock   the store's clock is this host's clock, so it can be read before there is a store
    via         the door that the events of this queue name; their `by` is this user on this host
    """

    def __init__(
        self,
        store: Store,
        sources: Sources,
        *,
        entries: Mapping[str, Entry] | None = None,
        create: Callable[[], Store] | None = None,
        absent: bool = False,
        own_clock: bool = True,
        via: str | None = None,
    ) -> None:
        self._actor, self._events_setting = Actor(via=via), EventsSetting(self.settings)
        self._sources = sources
        self._use(store)
        self._entries, self._create, self._own_clock = entries, create, own_clock
        self._creating = threading.Lock()
        self.absent = absent

    def _use(self, store: Store) -> None:
        self._plain, self._store = store, telling(store, self._events_setting, self._who)

    def acting(self, actor: Actor) -> "LocalQueue":
        """The same queue for another actor. Only a server calls it, so it is no method of `Queue`."""
        from copy import copy

        queue = copy(self)
        queue._actor = actor
        queue._use(self._plain)
        return queue

    def _who(self) -> Actor:
        """The actor of events."""
        if self._actor.by is None:
            self._actor = replace(self._actor, by=user_and_host())
        return self._actor

    def now(self) -> datetime:
        return (self._store if self._own_clock else self._created()).now()

    def create(self) -> None:
        self._created()

    def _created(self) -> Store:
        """The store. A missing store is created if this queue may create one."""
        with self._creating:
            if self.absent and self._create is not None:
                self._use(self._create())
                self.absent = False
        return self._store

    def enqueue(
        self,
        requests: Sequence[JobRequest],
        *,
        on_invalid: Callable[[InvalidInput], None] | None = None,
        dry_run: bool = False,
        whole: bool = False,  # noqa: ARG002  the results of a store have whole jobs anyway
    ) -> Sequence[Enqueued]:
        enqueuer = Enqueuer(Defaults(self.settings(), working_directory()), self.now())
        jobs = enqueueing.jobs_of(enqueuer, requests, on_invalid)
        if dry_run:
            return [Enqueued(job) for job in jobs]
        try:
            return enqueueing.enqueue(self._store, jobs)
        except StoreAbsent:  # created only now, so that a refused request creates no store
            return enqueueing.enqueue(self._created(), jobs)

    def parents(self, dependencies: Sequence[str]) -> Sequence[str]:
        from queuectl.service.references import parents

        return parents(self._store, dependencies)

    def resolve(self, references: Sequence[str]) -> Sequence[str]:
        from queuectl.service.references import resolve

        return resolve(self._store, references)

    def show(self, reference: str) -> Job:
        from queuectl.service.references import show

        return show(self._store, reference)

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        return self._store.get(ids)

    def list(self, wanted: "Wanted", page: Page) -> Found:
        from queuectl.service import matching

        return matching.page(self._store, wanted, page)

    def ids(self, wanted: "Wanted") -> Sequence[str]:
        from queuectl.service import matching

        return matching.ids(self._store, wanted)

    def counts(self, wanted: "Wanted") -> Counts:
        if isinstance(wanted, Filter):
            return self._store.counts(wanted)
        from queuectl.service import matching

        return matching.counts(self._store, wanted)

    def status(self) -> "Status":
        from queuectl.service.attention import attention
        from queuectl.service.status import status

        found = status(self._store, self.settings())
        return replace(found, attention=attention(self._store, found, self._sources.unused))

    def explain(self, reference: str) -> "Explanation":
        from queuectl.service.explain import explain

        return explain(self._store, self.settings(), self.show(reference))

    def output(self, reference: str, attempt: int | None = None) -> "Output":
        from queuectl.service.following import output

        return output(self._store, self.show(reference), attempt)

    def follow(
        self,
        id: str,
        *,
        attempt: int | None = None,
        after: "Position | None" = None,
        look: Callable[[Job], None] = lambda job: None,
    ) -> "Iterator[Part]":
        from queuectl.service.following import follow

        return follow(self._store, id, attempt=attempt, after=after, look=look)

    def wait(
        self,
        ids: Sequence[str],
        *,
        timeout: timedelta | None = None,
        any_one: bool = False,
        look: Callable[[Sequence[Job], int], None] = lambda jobs, count: None,
    ) -> dict[str, Job]:
        from queuectl.clock import boottime
        from queuectl.service.waiting import wait_for

        return wait_for(self._store, ids, timeout=timeout, any_one=any_one, monotonic=boottime, look=look)

    def obstacles(self, jobs: Sequence[Job]) -> Sequence[str]:
        from queuectl.service.waiting import obstacles

        return obstacles(self._store, self.settings(), jobs)

    def running_job(self, id: str, attempt_id: str | None) -> Job | None:
        job = self._store.get([id]).get(id)  # another store may have another job with this id
        return job if job and job.runs_as(attempt_id) else None

    def refuse_to_wait(self, own: Job, ids: Sequence[str], queues: Sequence[str] | None = None) -> None:
        from queuectl.service import deadlock

        deadlock.refuse_to_wait(self._store, own, ids)
        deadlock.refuse_without_slot(self._store, self.settings(), own, ids, queues)

    def cancel(
        self,
        selection: "Selection",
        *,
        by: str | None = None,
        reason: str | None = None,
        version: int | None = None,
    ) -> "Operation[Sequence[Change]]":
        from queuectl.service import commands, operation

        wanted, who = operation.not_ended(selection), by or user_and_host()

        def cancel(ids: Sequence[str]) -> Sequence["Change"]:
            return commands.cancel(self._store, ids, by=who, reason=reason, version=version)

        return operation.over(self._store, wanted, cancel)

    def retry(
        self,
        selection: "Selection",
        *,
        force: bool = False,
        alone: bool = False,
        version: int | None = None,
    ) -> "Operation[Sequence[Change]]":
        from queuectl.service import operation

        return operation.retry(self._store, selection, force=force, alone=alone, version=version)

    def hold(self, selection: "Selection", *, version: int | None = None) -> "Operation[Sequence[Change]]":
        from queuectl.service import commands, operation

        return operation.over(
            self._store, selection, lambda ids: commands.hold(self._store, ids, version=version)
        )

    def release(
        self, selection: "Selection", *, anyway: bool = False, version: int | None = None
    ) -> "Operation[Sequence[Change]]":
        from queuectl.service import commands, operation

        def release(ids: Sequence[str]) -> Sequence["Change"]:
            return commands.release(self._store, ids, anyway=anyway, version=version)

        return operation.over(self._store, selection, release)

    def edit(
        self,
        selection: "Selection",
        *,
        priority: int | None = None,
        run_at: datetime | None = None,
        queue: str | None = None,
        version: int | None = None,
    ) -> "Operation[Sequence[Change]]":
        from queuectl.service import commands, operation

        commands.check_priority(priority)

        def edit(ids: Sequence[str]) -> Sequence["Change"]:
            return commands.edit(
                self._store, ids, priority=priority, run_at=run_at, queue=queue, version=version
            )

        return operation.over(self._store, selection, edit)

    def delete(self, selection: "Selection", *, version: int | None = None) -> "Operation[Sequence[Change]]":
        from queuectl.service import commands, operation

        return operation.over(
            self._store, selection, lambda ids: commands.delete(self._store, ids, version=version)
        )

    def purge(self, wanted: "Wanted") -> "Operation[int]":
        from queuectl.service import operation

        return operation.purge(self._store, wanted)

    def transfer(self) -> "Transfer":
        from queuectl.service.transfer.transfer import LocalTransfer

        return LocalTransfer(self._store, self._created)

    def queues(self) -> "Sequence[QueueStatus]":
        from queuectl.service import queue_status

        return queue_status.queues(self._store)

    def check_queue(self, queue: str) -> str:
        from queuectl.service import commands

        return commands.known_queue(self._store, queue)

    def change_queue(self, queue: str, wanted: "QueueChange", *, version: int | None = None) -> bool:
        from queuectl.service import commands

        return commands.change_queue(self._store, queue, wanted, version)

    def settings(self) -> Settings:
        entries, self._entries = self._entries, None
        if entries is None:
            entries = self._store.read_table("settings")
        found = self._sources.resolve(config.stored({key: entry.value for key, entry in entries.items()}))
        self._events_setting.note(found)
        return replace(found, versions={key: entry.version for key, entry in entries.items()})

    def set(self, key: str, text: str, *, version: int | None = None) -> Settings:
        from queuectl.service import shared_settings

        checked = shared_settings.check(self._store, self._sources, key, text)
        shared_settings.write(self._created(), *checked, version)
        self._entries = None
        return self.settings()

    def unset(self, key: str, *, version: int | None = None) -> Settings:
        from queuectl.service import shared_settings

        checked = shared_settings.check(self._store, self._sources, key, None)
        shared_settings.write(self._store, *checked, version)
        self._entries = None
        return self.settings()

    def workers(self, *, with_jobs: bool = False) -> "Sequence[WorkerStatus]":
        from queuectl.service import slots, worker_status

        found = worker_status.workers(self._store, self.settings())
        return slots.occupied(found, slots.running(self._store)) if with_jobs else found

    def stop(self, ids: Sequence[str], *, at_once: bool = False) -> None:
        for id in ids:
            self._store.instruct(id, "stop" if at_once else "drain")

    def leaving(self, ids: Sequence[str], *, at_once: bool = False) -> "Sequence[WorkerStatus]":  # noqa: ARG002
        return [item for item in self.workers() if item.worker.id in ids]

    def reload(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._store.instruct(id, "reload")

    def silence(self, worker: "WorkerStatus") -> "Silence":
        from queuectl.service import registry

        return registry.silence(self._store, worker)

    def forget(self, worker: "WorkerStatus") -> "tuple[Silence, Sequence[Job]]":
        from queuectl.service import registry

        silent = registry.silence(self._store, worker)
        return silent, registry.forget(self._store, silent, self._store.now())

    def events(self) -> "Events":
        from queuectl.service.events import LocalEvents

        return LocalEvents(self._store)

    def tokens(self) -> "Sequence[Token]":
        from queuectl.service import tokens

        return tokens.all_of(self._store)

    def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires: timedelta | UnsetType | None = UNSET,
        queues: Sequence[str] | None = None,
        by: str | None = None,
    ) -> "Issued":
        from queuectl.service import tokens

        def create(store: Store) -> "Issued":
            who = by or user_and_host()
            return tokens.create(
                store, name, scopes, expires=expires, queues=queues, by=who, random=random_bytes
            )

        try:
            return create(self._store)
        except StoreAbsent:  # only now, so that a refused request creates no store
            return create(self._created())

    def revoke_token(self, name: str) -> None:
        from queuectl.service import tokens

        tokens.revoke(self._store, name)

    def rotate_token(self, name: str, *, keep: timedelta | UnsetType = UNSET) -> "Issued":
        from queuectl.service import tokens

        return tokens.rotate(self._store, name, keep=keep, random=random_bytes)

    def note_token_use(self, name: str, at: datetime) -> None:
        """Store the hour in which a token was used. Only a server calls it, so it is no method of `Queue`."""
        from queuectl.service import tokens

        tokens.note_use(self._store, name, at)

    def vitals(self) -> "Vitals":
        """The vital signs of the store. Only a server calls it, so it is no method of `Queue`."""
        from queuectl.service.consumption import vitals

        return vitals(self._store, self.settings())

    def time_verbs(self, note: Callable[[str, float], None]) -> None:
        """Let `note` get the verb and the seconds of each call of the store. Only a server calls it."""
        from queuectl.service.timed_store import timed

        self._use(timed(self._plain, note))

    def describe(self) -> Description:
        return self._store.describe()

    def doctor(self) -> "Sequence[Check]":
        from queuectl.service import doctor

        return doctor.checks(self._store, self.status(), absent=self.absent)

    def close(self) -> None:
        self._store.close()


if TYPE_CHECKING:
    _keeps_the_contract: type[Queue] = LocalQueue
