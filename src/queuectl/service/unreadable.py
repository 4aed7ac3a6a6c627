"""Finds, records and deletes unreadable jobs. Such a job is stored and cannot be decoded.

A worker enters those that it finds into the shared table `aside`, so that `status` need not search for them.
"""

from collections.abc import Iterator, Sequence

from queuectl.domain.ids import is_number
from queuectl.domain.job import STATES, TERMINAL, State
from queuectl.domain.query import Filter, Jobs, Page, Unreadable
from queuectl.errors import StoreError, UnreadableJob
from queuectl.service.paging import pages
from queuectl.store.protocol import Store, Swap


def refusal(each: Unreadable) -> UnreadableJob:
    """The error for a command that names an unreadable job."""
    return UnreadableJob(each.id, each.number, each.reason)


def among(store: Store, ids: Sequence[str], got: Jobs) -> dict[str, Unreadable]:
    """The unreadable jobs among these ids. `got` is the result of `Store.get`. A job without an id is identified by
    its number.
    """
    found = dict(got.unreadable)
    for id in ids:
        if id not in got and id not in found and is_number(id):
            there = store.find(Filter(number=int(id)), Page(limit=1)).unreadable
            found |= dict(zip([id], there, strict=False))
    return found


def every(store: Store) -> Iterator[Unreadable]:
    """All unreadable jobs, each once. Reads every job. While the archive cannot be reached, ended jobs are omitted."""
    seen = set[int]()
    try:
        yield from _among(store, Filter(), seen)
    except StoreError:
        if store.background_fault() is None:
            raise
        yield from _among(store, Filter(states=_LIVING), seen)


def _among(store: Store, wanted: Filter, seen: set[int]) -> Iterator[Unreadable]:
    for found in pages(store, wanted, 1000):
        yield from (each for each in found.unreadable if each.number not in seen)
        seen |= {each.number for each in found.unreadable}


_LIVING: frozenset[State] = frozenset(STATES) - TERMINAL
"""The states of jobs that are never in an archive. Jobs that a worker sets aside are in one of them."""


def known(store: Store) -> list[Unreadable]:
    """The unreadable jobs that workers have found, and that are still unreadable."""
    found = list[Unreadable]()
    for key in store.read_table("aside"):
        found += _under(store, key)
    return found


def record(store: Store, found: Sequence[Unreadable]) -> list[Unreadable]:
    """Enter the unreadable jobs that a worker has found into the shared table. Returns the new entries."""
    return [
        each
        for each in found
        if store.swap([Swap("aside", str(each.number), {"id": each.id, "reason": each.reason}, 0)])[0]
    ]


def forget_repaired(store: Store) -> None:
    """Remove the entries of jobs that were repaired or deleted since they were recorded."""
    for key, entry in store.read_table("aside").items():
        if not _under(store, key):
            store.swap([Swap("aside", key, None, entry.version)])


def delete(store: Store, each: Unreadable) -> bool:
    """Delete an unreadable job with its output. False if no unreadable job has its number any more."""
    gone = store.discard([each.number])
    forget_repaired(store)
    return bool(gone)


def _under(store: Store, key: str) -> list[Unreadable]:
    """The unreadable jobs with this number that have not ended."""
    if not is_number(key):
        return []
    return store.find(Filter(number=int(key), states=_LIVING), Page(limit=1)).unreadable
