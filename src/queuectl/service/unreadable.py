"""Unreadable jobs, which are stored and cannot be decoded: finding them, logging each once, deleting them.

A worker enters those that it finds into the shared table `aside`, so that `status` need not search for them.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from queuectl.domain.ids import is_number
from queuectl.domain.job import STATES, TERMINAL, State
from queuectl.domain.query import Filter, Jobs, Page, Unreadable
from queuectl.errors import QueuectlError, StoreError, UnreadableJob
from queuectl.store.protocol import Store


def refusal(each: Unreadable) -> UnreadableJob:
    """The error for whoever asks for such a job."""
    return UnreadableJob(each.id, each.number, each.reason)


def among(store: Store, ids: Sequence[str], got: Jobs) -> dict[str, Unreadable]:
    """Those of these ids that are unreadable; `got` is the store's answer. One without an id goes by its number."""
    found = dict(got.unreadable)
    for id in ids:
        if id not in got and id not in found and is_number(id):
            there = store.find(Filter(number=int(id)), Page(limit=1)).unreadable
            found |= dict(zip([id], there, strict=False))
    return found


def why_missing(store: Store, id: str, otherwise: QueuectlError) -> QueuectlError:
    """Why the store answers no job with this id: it is unreadable, or what is said `otherwise`."""
    found = among(store, [id], store.get([id]))
    return refusal(found[id]) if id in found else otherwise


def every(store: Store) -> Iterator[Unreadable]:
    """All of them, each once. Looks at every job, which takes its time; while the archive is away, at those here."""
    seen = set[int]()
    try:
        yield from _among(store, Filter(), seen)
    except StoreError:
        if store.background_fault() is None:
            raise
        yield from _among(store, Filter(states=_LIVING), seen)


def _among(store: Store, wanted: Filter, seen: set[int]) -> Iterator[Unreadable]:
    page = Page(limit=1000)
    while True:
        found = store.find(wanted, page)
        yield from (each for each in found.unreadable if each.number not in seen)
        seen |= {each.number for each in found.unreadable}
        if found.next is None:
            return
        page = replace(page, after=found.next)


_LIVING: frozenset[State] = frozenset(STATES) - TERMINAL
"""States of jobs that no archive has. What a worker sets aside is in one of them."""


def known(store: Store) -> list[Unreadable]:
    """Those that workers have met, and that are unreadable still."""
    found = list[Unreadable]()
    for key in store.read_table("aside"):
        found += _under(store, key)
    return found


def record(store: Store, found: Sequence[Unreadable]) -> list[Unreadable]:
    """Enter the unreadable jobs that a worker has found into the shared table. Answers those that are new there."""
    return [
        each
        for each in found
        if store.compare_and_swap("aside", str(each.number), {"id": each.id, "reason": each.reason}, 0)
    ]


def forget_repaired(store: Store) -> None:
    """Remove the entries of jobs that were repaired or deleted since they were recorded."""
    for key, entry in store.read_table("aside").items():
        if not _under(store, key):
            store.compare_and_swap("aside", key, None, entry.version)


def delete(store: Store, each: Unreadable) -> bool:
    """Delete one, with its output; False if there is none any more under its number."""
    gone = store.discard([each.number])
    forget_repaired(store)
    return bool(gone)


def _under(store: Store, key: str) -> list[Unreadable]:
    """What is unreadable under a number, given as text, and has not ended."""
    if not is_number(key):
        return []
    return store.find(Filter(number=int(key), states=_LIVING), Page(limit=1)).unreadable
