"""Checks a store, its settings, its workers and its queues. Every result is read from the store."""

from collections.abc import Iterator
from itertools import islice
from shlex import quote

from msgspec import Struct

from queuectl import config
from queuectl.clock import Clock
from queuectl.domain.instant import format_age
from queuectl.domain.queue import is_sound
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.service import maintenance, unreadable
from queuectl.service.status import Status
from queuectl.store.protocol import Store

CLOCK_TOLERANCE = 2.0
DAMAGE_SHOWN = 100
"""Maximum number of unreadable jobs that are listed one by one."""


class Check(Struct, frozen=True):
    """The result of one check. `hint`: what to do if the check fails, or to improve the result."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


def checks(store: Store, found: Status, *, absent: bool) -> list[Check]:
    """The results of the checks of the store, then of its workers and queues. `absent`: there is no store yet."""
    return [*_store(store, absent=absent), *_queue(found)]


def _store(store: Store, *, absent: bool) -> Iterator[Check]:
    said = store.describe(thorough=True)
    yield Check("store", True, said.url)
    yield Check("durability", True, said.durability)
    for name, value in said.details.items():
        yield Check(name, True, value)
    for fault in said.faults:
        yield Check("store fault", False, fault)
    if not absent:
        yield _write(store)
    yield from _damage(store)
    skew = (store.now() - Clock().now()).total_seconds()
    yield Check(
        "clock", abs(skew) <= CLOCK_TOLERANCE, f"the store's clock differs by {abs(skew):.3f} s", None
    )


def _write(store: Store) -> Check:
    """Write an entry and remove it. Only a write detects a full disk or a read-only server."""
    try:
        maintenance.try_write(store)
    except (StoreError, OutcomeUnknown) as error:
        return Check("write", False, error.message, error.hint)
    return Check("write", True, "an entry was written and removed")


def _damage(store: Store) -> Iterator[Check]:
    """The stored jobs, settings and queues that cannot be decoded. All other commands skip them."""
    for each in islice(unreadable.every(store), DAMAGE_SHOWN):
        error = unreadable.refusal(each)
        yield Check("unreadable job", False, error.message, error.hint)
    settings = store.read_table("settings")
    for key, fault in config.invalid({key: entry.value for key, entry in settings.items()}).items():
        detail = f"the store's setting {key} is ignored: {fault}"
        yield Check("unreadable setting", False, detail, f"queuectl config unset {key}")
    for name, entry in store.read_table("queues").items():
        if entry.unreadable or not is_sound(entry.value):
            detail = f"the entry of queue {name} is invalid: no job is claimed from this queue"
            yield Check("unreadable queue", False, detail, f"queuectl queue resume {quote(name)}")


def _queue(found: Status) -> Iterator[Check]:
    """The live workers, the jobs that wait for them, and the problems that need a person."""
    yield Check("live workers", True, str(sum(1 for item in found.workers if item.state != "lost")))
    for item in found.workers:
        if item.state != "lost":
            skew = item.worker.skew
            clock = "" if skew is None else f"; its host's clock differs by {skew:+.3f} s"
            yield Check(
                "worker", True, f"{item.worker.name} on {item.worker.host}, {item.worker.version}{clock}"
            )
    for queue in found.queues:
        if queue.oldest_due is not None:
            waiting = queue.jobs.get("pending", 0) + queue.jobs.get("failed", 0)
            age = format_age(found.now - queue.oldest_due)
            yield Check("oldest due job", True, f"for {age}, in queue {queue.name} with {waiting} waiting")
    for thing in found.attention:
        if thing.kind == "unreadable":  # `_damage` has already reported all unreadable jobs
            continue
        yield Check(thing.kind.replace("_", " "), not thing.fault, thing.text, thing.hint)
