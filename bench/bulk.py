"""The measurements of operations by filter: the time of a cancel of many jobs, and what it costs the workers."""

import threading
import time
from collections.abc import Callable
from functools import partial

from bench.place import Kind, Place, place
from bench.rows import Row, enqueue_noops, eventually, pile, timed
from queuectl.domain.query import Filter
from queuectl.store.protocol import Store

WAITING = 100_000
CANCEL = ("cancel", "--where", "state:pending queue:default", "--yes", "-q")
NOOPS = 25_000
"""Jobs of the other queue: more than a worker does during three measurements."""
DONE = Filter(states=frozenset(("completed",)), queue="other")
ALONE = 5.0
"""Seconds for which the worker is measured without the cancel, before and after it."""


def bulk_cancel(scale: float, kind: Kind = "sqlite", goal: float = 10.0) -> Row:
    """`queuectl cancel` of many waiting jobs by a filter."""
    count = max(500, int(WAITING * scale))
    with place(kind) as here:
        pile(here, count)
        took = timed(lambda: here.run(*CANCEL))
        _check(here, count)
    return Row("bulk-cancel", f"{took:.1f} s", f"≤ {goal:.0f} s", took <= goal, f"{count:,} pending jobs")


def bulk_beside(scale: float, kind: Kind = "sqlite", goal: float = 0.70) -> Row:
    """Jobs a second of a worker on another queue while a cancel runs, against the same worker alone."""
    count = max(500, int(WAITING * scale))
    with place(kind) as here:
        pile(here, count)
        enqueue_noops(here, NOOPS, "--queue", "other")
        store = here.store()
        with here.worker("--count", "2", "--queue", "other"):
            eventually(lambda: store.counts(DONE).total() > 50)
            before = _rate(store, lambda: threading.Event().wait(ALONE))
            beside = _rate(store, lambda: here.run(*CANCEL))
            after = _rate(store, lambda: threading.Event().wait(ALONE))
            assert store.counts(DONE).total() < NOOPS, "the worker has run out of jobs"
        store.close()
        _check(here, count)
    alone = (before + after) / 2
    detail = (
        f"{beside:.0f} jobs/s while {count:,} jobs are cancelled, {before:.0f}/s before, {after:.0f}/s after"
    )
    return Row(
        "bulk-beside", f"{beside / alone:.2f} × alone", f"≥ {goal:.2f}", beside >= goal * alone, detail
    )


def _rate(store: Store, during: Callable[[], object]) -> float:
    """Completed jobs a second of the other queue."""
    done, start = store.counts(DONE).total(), time.perf_counter()
    during()
    return (store.counts(DONE).total() - done) / (time.perf_counter() - start)


def _check(here: Place, count: int) -> None:
    store = here.store()
    cancelled = store.counts(Filter(states=frozenset(("cancelled",)), queue="default")).total()
    store.close()
    assert cancelled == count, f"{cancelled} of {count} jobs are cancelled"


SERVERS: tuple[Kind, ...] = ("postgres", "mongodb", "redis", "archived")
BULK: dict[str, Callable[[float], Row]] = {
    "bulk-cancel": bulk_cancel,
    "bulk-beside": bulk_beside,
    **{f"bulk-cancel-{kind}": partial(bulk_cancel, kind=kind, goal=20.0) for kind in SERVERS},
    **{f"bulk-beside-{kind}": partial(bulk_beside, kind=kind) for kind in SERVERS},
}
