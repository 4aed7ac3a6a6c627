"""A process that moves jobs between queue and archive dies at any step: afterwards no job is missing or duplicate."""

from collections.abc import Callable
from typing import Any

import pytest

from circles import turns
from contract.archived import Between, counted, ids, move_all
from factories import LEASE, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.store.redis_archive import ArchivedStore, transfer

FIRST = Filter(id_prefix="done")


class Killed(BaseException):
    """The process was killed."""


class Mortal:
    """Stands for a part of a store, and dies with the call that the test has chosen: before it, or when it is done."""

    def __init__(self, part: Any, life: "Life") -> None:
        self._part, self._life = part, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        return self._life.guard(found) if callable(found) and name != "close" else found


class Life:
    """The number of calls that a process makes before it dies."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def guard(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Make the call if the process still lives."""

        def guarded(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return call(*args, **options)

        return guarded


def doomed(store: ArchivedStore, steps: int) -> ArchivedStore:
    """The store, that dies after so many calls to either side."""
    life = Life(steps)
    store._archive = store.archiver._archive = Mortal(store._archive, life)  # type: ignore[assignment]
    store.session = store._queue.session = Mortal(store.session, life)  # type: ignore[assignment]
    return store


@pytest.fixture
def between(between_ground: Between, monkeypatch: pytest.MonkeyPatch) -> Between:
    """A queue with jobs of which two have been archived, one with output, and two have ended since."""
    monkeypatch.setattr(transfer, "ABANDONED_MS", 0)
    store = between_ground.fresh()
    _run(store, "done", b"printed")
    store.add([in_state("dead", "dead"), new_job("waits")])
    move_all(store)
    _run(store, "done-since", b"printed since")
    store.add([in_state("cancelled", "cancelled")])
    return between_ground


def _run(store: ArchivedStore, id: str, printed: bytes) -> None:
    """A job that has run, and printed something."""
    store.add([new_job(id, priority=9)])
    (running,) = store.claim("w1", (), 1, LEASE)
    assert running.lease is not None
    attempt_id = running.lease.attempt_id
    store.write_output([Chunk(id, attempt_id, 1, 0, store.now(), 0, printed)])
    ended = lifecycle.finish(running, report(now=store.now()), now=store.now(), random_number=0.5)
    assert statuses(store.save([ended])) == ["accepted"]


def _move(store: ArchivedStore) -> None:
    move_all(store)


def _retry(store: ArchivedStore) -> None:
    (job,) = store.get(["done"]).values()
    store.save([lifecycle.retry(job, now=store.now(), force=True)])


def _retry_what_is_moved(store: ArchivedStore) -> None:
    (job,) = store.get(["done-since"]).values()
    store.save([lifecycle.retry(job, now=store.now(), force=True)])
    move_all(store)


def _delete_all(store: ArchivedStore) -> None:
    store.purge(Filter(), 10)


def _delete_and_move(store: ArchivedStore) -> None:
    store.purge(Filter(id_prefix="c"), 1)
    move_all(store)


def _delete_what_came_back(store: ArchivedStore) -> None:
    _retry(store)
    (job,) = store.get(["done"]).values()
    store.save([lifecycle.cancel(job, by="test", reason=None, now=store.now())])
    store.purge(Filter(id_prefix="done", number=job.number), 1)


ALL = ["cancelled", "dead", "done", "done-since", "waits"]
WORKS: dict[str, tuple[Callable[[ArchivedStore], None], Callable[[list[str]], bool]]] = {
    "move": (_move, lambda left: left == ALL),
    "retry": (_retry, lambda left: left == ALL),
    "retry what is moved": (_retry_what_is_moved, lambda left: left == ALL),
    "delete": (_delete_all, lambda left: "waits" in left),
    "delete what came back": (_delete_what_came_back, lambda left: set(ALL) - set(left) <= {"done"}),
    "delete what is moved": (_delete_and_move, lambda left: set(ALL) - set(left) <= {"cancelled"}),
}


@pytest.mark.parametrize("work", turns(WORKS, 3))
def test_a_process_that_dies_at_any_step_loses_and_duplicates_no_job(between: Between, work: str) -> None:
    do, is_well = WORKS[work]
    steps = 0
    while _dies(between, do, steps):
        steps += 1
        _others_go_on(between)
        store = between.fresh()
        left = ids(store)
        assert is_well(left), f"after {steps - 1} steps"
        assert counted(store) == _sums(store, left)
        assert between.faults() == {}
        _make_whole(between, store, left)
    assert steps > 2, "it did nothing, and so nothing was tried"


def _dies(between: Between, do: Callable[[ArchivedStore], None], steps: int) -> bool:
    """Whether it came to an end before it was done."""
    try:
        do(doomed(between.fresh(), steps))
    except Killed:
        return True
    return False


def _others_go_on(between: Between) -> None:
    other = between.fresh()
    other.archiver.finish_all()
    move_all(other)
    other.archiver.finish_all()
    assert between.unmoved() == 0
    assert between.server.call("HLEN", between.key("arriving")) == 0
    assert between.server.call("HLEN", between.key("leaving")) == 0
    assert not set(between.here()) & set(between.copies())


def _sums(store: ArchivedStore, left: list[str]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for job in store.get(left).values():
        sums[job.state] = sums.get(job.state, 0) + 1
    return sums


def _make_whole(between: Between, store: ArchivedStore, left: list[str]) -> None:
    """Restore the state for the next process: a retried job can run, and its output can still be read."""
    jobs = store.get(left)
    for id in ("done", "done-since"):
        if id in jobs:
            attempts = jobs[id].history
            assert [c.data for c in store.read_output(attempts[0].attempt_id, 0)] in (
                [b"printed"],
                [b"printed since"],
            )
    store.purge(Filter(), 10)
    for job in store.claim("w1", (), 10, LEASE):
        ended = lifecycle.finish(job, report(now=store.now()), now=store.now(), random_number=0.5)
        store.save([ended])
    _others_go_on(between)
    store.purge(Filter(), 10)
    _others_go_on(between)
    assert (between.copies(), between.here()) == ([], [])
    assert between.past.base["output"].count_documents({}) == 0
    _run(store, "done", b"printed")
    store.add([in_state("dead", "dead"), new_job("waits")])
    move_all(store)
    _run(store, "done-since", b"printed since")
    store.add([in_state("cancelled", "cancelled")])
