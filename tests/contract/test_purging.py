"""`purge` deletes only ended jobs, the longest ended first, and a bounded number."""

from datetime import timedelta
from itertools import chain

import pytest

from contract.grounds import race
from factories import NOW, in_state, new_job
from queuectl.domain import lifecycle
from queuectl.domain.job import STATES, TERMINAL, Parent
from queuectl.domain.query import Filter, Page
from queuectl.store.protocol import Store


def test_only_ended_jobs_are_deleted_with_any_filter(store: Store) -> None:
    store.add([in_state(state, state) for state in STATES])
    assert store.purge(Filter(states=frozenset({"pending", "processing", "failed"})), 10) == []
    assert set(store.purge(Filter(), 10)) == TERMINAL
    assert set(store.get(list(STATES))) == set(STATES) - TERMINAL


@pytest.mark.doubles
def test_a_limited_number_of_jobs_is_deleted_the_longest_ended_first(store: Store) -> None:
    minutes = {"a": 3, "b": 1, "c": 2, "d": 0}
    store.add([in_state("completed", id_, now=NOW - timedelta(minutes=m)) for id_, m in minutes.items()])
    assert store.purge(Filter(), 0) == []
    assert store.purge(Filter(), 3) == ["a", "c", "b"]
    assert store.purge(Filter(), 3) == ["d"]
    assert store.purge(Filter(), 3) == []


def test_a_filter_limits_the_deleted_jobs(store: Store) -> None:
    store.add([in_state("completed", "old", now=NOW - timedelta(days=8)), in_state("dead", "older")])
    store.add([in_state("dead", "older-x", now=NOW - timedelta(days=9), queue="x")])
    assert store.purge(Filter(ended_before=NOW - timedelta(days=7), states=frozenset({"completed"})), 9) == [
        "old"
    ]
    assert store.purge(Filter(queue="x"), 9) == ["older-x"]


@pytest.mark.doubles
def test_ids_limit_the_deleted_jobs(store: Store) -> None:
    store.add([in_state(state, state) for state in STATES])
    last = store.get(["dead"])["dead"].finished_at
    assert last is not None
    assert store.purge(Filter(ids=("dead", "completed"), ended_before=last), 2) == []
    assert set(store.purge(Filter(ids=("dead", "held", "nobody", "completed")), 4)) == {"dead", "completed"}
    assert set(store.get(list(STATES))) == set(STATES) - {"dead", "completed"}


def test_no_entry_of_a_deleted_job_is_left(store: Store) -> None:
    [job] = [
        a.job for a in store.add([new_job("a", after=(Parent("p"),), unique_key="k", batch="b", tags=("t",))])
    ]
    store.save([lifecycle.cancel(job, by="me", reason=None, now=NOW)])
    assert store.purge(Filter(), 1) == ["a"]
    for wanted in (Filter(), Filter(batch="b"), Filter(waiting_for=("p",)), Filter(unique_key="k")):
        assert store.find(wanted, Page()).jobs == []
    assert store.counts(Filter()).total() == 0
    assert [a.status for a in store.add([new_job("a", content="other", unique_key="k")])] == ["added"]


def test_concurrent_purges_delete_each_job_once(store: Store, other: Store) -> None:
    store.add([in_state("completed") for _ in range(60)])

    def purge(handle: Store) -> list[str]:
        gone: list[str] = []
        while some := handle.purge(Filter(), 4):
            gone += some
        return gone

    gone = list(chain.from_iterable(race(*[lambda h=h: purge(h) for h in (store, other) * 2])))
    assert len(gone) == len(set(gone)) == 60


def test_a_job_that_is_retried_meanwhile_is_either_saved_or_purged(store: Store, other: Store) -> None:
    jobs = [added.job for added in store.add([in_state("dead", f"j{n}") for n in range(20)])]
    revived = [lifecycle.retry(job, now=NOW) for job in jobs]
    saved, purged = race(
        lambda: [store.save([job])[0] for job in revived],
        lambda: [id_ for _ in range(20) for id_ in other.purge(Filter(), 1)],
    )
    alive = {job.id for job, answer in zip(jobs, saved, strict=True) if answer.status == "accepted"}
    assert alive == set(store.get([job.id for job in jobs]))
    assert alive.isdisjoint(purged)
    assert alive.union(purged) == {job.id for job in jobs}
