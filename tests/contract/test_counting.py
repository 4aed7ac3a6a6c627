"""`counts` returns numbers per queue and state that always agree with the stored jobs."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock, named, race
from factories import LEASE, NOW, in_state, new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.job import STATES
from queuectl.domain.query import Counts, Filter, Page
from queuectl.store.protocol import Store, Swap


def counted(store: Store, wanted: Filter) -> Counts:
    """The counts, computed from each job."""
    counts = Counts({})
    for job in store.find(wanted, Page(limit=10_000)).jobs:
        states = counts.queues.setdefault(job.queue, {})
        states[job.state] = states.get(job.state, 0) + 1
    return counts


def test_an_empty_store_has_no_counts(store: Store) -> None:
    assert store.counts(Filter()) == Counts({})


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(queue="x"),
        Filter(states=frozenset({"dead", "pending"})),
        Filter(queue="y", states=frozenset({"held"})),
        Filter(queue="nobody's"),
        Filter(tag="red"),
        Filter(batch="b", states=frozenset({"completed"})),
        Filter(id_prefix="j1"),
        Filter(ended_before=NOW + timedelta(seconds=1)),
    ],
    ids=named,
)
def test_counts_agree_with_the_stored_jobs(store: Store, wanted: Filter) -> None:
    for number, state in enumerate(STATES):
        store.add(
            [in_state(state, f"j{number}", queue="x", batch="b"), in_state(state, queue="y", tags=("red",))]
        )
    assert store.counts(wanted) == counted(store, wanted)


@pytest.mark.doubles
def test_a_job_is_counted_in_its_present_queue_and_state(store: Store) -> None:
    [job] = [added.job for added in store.add([new_job("a", queue="x")])]
    assert store.counts(Filter()) == Counts({"x": {"pending": 1}})
    store.save([lifecycle.edit(job, priority=None, run_at=None, queue="y", now=NOW)])
    assert store.counts(Filter()) == Counts({"y": {"pending": 1}})
    [claimed] = store.claim("w1", (), 1, LEASE)
    assert store.counts(Filter()) == Counts({"y": {"processing": 1}})
    store.save([lifecycle.finish(claimed, report(), now=NOW, random_number=0.5)])
    assert store.counts(Filter()) == Counts({"y": {"completed": 1}})
    store.purge(Filter(), 1)
    assert store.counts(Filter()) == Counts({})


def test_a_refused_write_is_not_counted(store: Store) -> None:
    store.add([new_job("a"), new_job("k", unique_key="k"), in_state("dead", "d", unique_key="k")])
    store.add([new_job("a"), new_job("b", unique_key="k")])
    store.save([lifecycle.retry(store.get(["d"])["d"], now=NOW)])
    assert store.counts(Filter()) == Counts({"default": {"pending": 2, "dead": 1}})


def test_counts_are_right_after_concurrent_writes(store: Store, other: Store, clock: SteppedClock) -> None:
    def work(handle: Store, queue: str) -> None:
        for _ in range(10):
            handle.add([new_job(queue=queue), new_job(queue=queue, run_at=NOW + timedelta(days=1))])
            jobs = handle.claim("w1", (), 2, LEASE)
            handle.save(
                [lifecycle.finish(job, report(exit_code=1), now=NOW, random_number=0.5) for job in jobs]
            )

    race(*[lambda h=h, q=f"q{n % 3}": work(h, q) for n, h in enumerate((store, other) * 3)])
    counts = store.counts(Filter())
    assert counts == counted(store, Filter())
    assert counts.total() == 120


def test_due_since_returns_the_longest_waiting_job_of_each_queue(store: Store, clock: SteppedClock) -> None:
    assert store.due_since() == {}
    early, soon = NOW - timedelta(minutes=5), NOW + timedelta(seconds=10)
    store.add(
        [new_job("a", queue="x", run_at=early), new_job("b", queue="x", priority=9), new_job(queue="y")]
    )
    store.add([new_job("later", queue="z", run_at=soon), new_job(queue="y", run_at=soon)])
    store.add([in_state(state, queue="other") for state in STATES if state not in ("pending", "failed")])
    assert store.due_since() == {"x": early, "y": NOW}
    clock.step(seconds=10)
    assert store.due_since() == {"x": early, "y": NOW, "z": soon}
    store.claim("w1", ("x",), 1, LEASE)
    assert store.due_since()["x"] == early  # the other job was claimed first
    store.claim("w1", (), 10, LEASE)
    assert store.due_since() == {}


def test_a_job_whose_retry_is_due_waits_since_its_retry_time(store: Store, clock: SteppedClock) -> None:
    store.add([in_state("failed", "f")])
    assert store.due_since() == {}
    clock.step(hours=1)
    assert store.due_since() == {"default": store.get(["f"])["f"].run_at}


def test_due_since_includes_paused_queues(store: Store) -> None:
    store.add([new_job("a", queue="x")])
    store.swap([Swap("queues", "x", {"paused": True, "limit": None}, 0)])
    assert store.due_since() == {"x": NOW}


@pytest.mark.doubles
def test_the_last_number_never_falls(store: Store) -> None:
    assert store.last_number() == 0
    [first] = store.add([new_job("a")])
    assert store.last_number() == first.job.number
    [_, last] = store.add([in_state("completed", "b"), in_state("completed", "c")])
    assert store.last_number() == last.job.number == first.job.number + 2
    assert sorted(store.purge(Filter(), 10)) == ["b", "c"]
    assert store.last_number() == last.job.number


def test_a_job_that_was_there_does_not_lower_the_last_number(store: Store) -> None:
    job = new_job("a")
    store.add([job])
    store.add([job])
    assert store.last_number() >= 1
    [other] = store.add([new_job("b")])
    assert store.last_number() == other.job.number
