"""`subscribe`: every subscription is woken by every change of its topics. Also the clock and the description of a
store."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import get_args

import pytest

from contract.grounds import Ground, MemoryGround, SqliteGround, SteppedClock, race
from factories import LEASE, NOW, new_job, report
from facts import stays_quiet
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import Job
from queuectl.domain.output import STDOUT, Chunk
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.protocol import Durability, Store, Subscription

LONG = 20.0


@pytest.fixture
def work(store: Store) -> Iterator[Subscription]:
    """A subscription to work that has taken in what has changed so far."""
    with closing(store.subscribe(topics.WORK)) as subscription:
        settle(subscription)
        yield subscription


def settle(*subscriptions: Subscription) -> None:
    """Take in what has changed so far."""
    while any(subscription.wait(0.15) for subscription in subscriptions):
        pass


def waits(*subscriptions: Subscription, seconds: float = 20.0) -> list[Callable[[], bool]]:
    """Calls for `race`: each waits on one of them."""
    return [partial(subscription.wait, seconds) for subscription in subscriptions]


def complete(store: Store, job: Job) -> None:
    """A claimed job ends."""
    now = store.now()
    store.save([lifecycle.finish(job, report(now=now), now=now, random_number=0.5)])
    assert store.get([job.id])[job.id].state == "completed"


def test_a_wait_without_a_change_ends_after_its_timeout(work: Subscription) -> None:
    assert work.wait(0.02) is False
    assert work.wait(0) is False


def test_a_wait_ends_at_once_when_it_is_woken(work: Subscription) -> None:
    assert race(lambda: work.wait(LONG), work.wake)[0] is True


def test_a_wake_before_the_wait_is_not_lost(work: Subscription) -> None:
    work.wake()
    assert work.wait(LONG) is True
    assert work.wait(0.02) is False


def test_a_wake_wakes_one_subscription_only(store: Store, work: Subscription) -> None:
    with closing(store.subscribe(topics.WORK)) as second:
        settle(second)
        for woken, asleep in ((work, second), (second, work)):
            assert race(*waits(woken), *waits(asleep, seconds=0.3), woken.wake)[:2] == [True, False]


@pytest.mark.doubles
def test_one_change_wakes_each_of_four_subscriptions(store: Store, other: Store) -> None:
    waiters = [store.subscribe(topics.WORK) for _ in range(4)]
    settle(*waiters)
    *woken, _ = race(*waits(*waiters), lambda: other.add([new_job()]))
    assert woken == [True] * 4


def test_when_the_reading_thread_leaves_another_thread_reads(store: Store, other: Store) -> None:
    """One waiting thread reads for all threads; in this test its timeout ends before the change."""
    leaver, *waiters = [store.subscribe(topics.WORK) for _ in range(4)]
    settle(leaver, *waiters)
    left = threading.Event()

    def leaves() -> bool:
        told = leaver.wait(0.2)
        left.set()
        return told

    def adds() -> None:
        left.wait()
        other.add([new_job()])

    assert race(leaves, *waits(*waiters), adds)[:4] == [False, True, True, True]


def test_a_change_between_two_waits_wakes_each_subscription(
    store: Store, other: Store, work: Subscription
) -> None:
    with closing(store.subscribe(topics.WORK)) as second:
        settle(second)
        other.add([new_job("a")])
        assert work.wait(LONG) is True
        assert second.wait(LONG) is True
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]


def test_a_change_by_the_same_handle_wakes_a_subscription(store: Store, work: Subscription) -> None:
    store.add([new_job()])
    assert work.wait(LONG) is True


def test_a_handle_that_claims_is_woken_by_ends(store: Store, other: Store) -> None:
    other.add([new_job("a")])
    (job,) = store.claim("w1", (), 1, LEASE)
    with closing(store.subscribe(topics.ENDS)) as subscription:
        settle(subscription)
        complete(other, job)
        assert subscription.wait(LONG) is True


def test_an_end_does_not_wake_the_topic_work(
    store: Store, other: Store, work: Subscription, ground: Ground
) -> None:
    """SQLite shows only that a change happened, so there any topic may wake a subscription."""
    other.add([new_job("a")])
    (job,) = other.claim("w1", (), 1, LEASE)
    settle(work)
    complete(other, job)
    if not isinstance(ground, SqliteGround):
        stays_quiet(work.wait, 0.3)


@pytest.mark.doubles
def test_output_wakes_its_topic_soon(store: Store, other: Store) -> None:
    other.add([new_job("a")])
    (job,) = other.claim("w1", (), 1, LEASE)
    with closing(store.subscribe(topics.OUTPUT)) as subscription:
        subscription.wait(0.1)
        other.write_output([Chunk(job.id, job.attempt_id or "", 1, STDOUT, NOW, 0, b"x")])
        assert told_soon(subscription)


def test_any_change_of_a_job_wakes_the_topic_changes_soon(store: Store, other: Store) -> None:
    other.add([new_job("a")])
    with closing(store.subscribe(topics.CHANGES)) as subscription:
        subscription.wait(0.1)
        other.claim("w1", (), 1, LEASE)
        assert told_soon(subscription)


def told_soon(subscription: Subscription) -> bool:
    """Whether a wait ends long before its time is over."""
    began = time.monotonic()
    return subscription.wait(LONG) and time.monotonic() - began < 5


def test_closing_a_subscription_ends_its_wait(work: Subscription) -> None:
    assert race(lambda: work.wait(LONG), work.close)[0] is False
    assert work.wait(LONG) is False
    work.close()


@pytest.mark.doubles
def test_closing_a_store_ends_every_wait(ground: Ground) -> None:
    if isinstance(ground, MemoryGround):
        pytest.skip("a store in memory is never closed")
    store = ground.open()
    waiters = [store.subscribe(topics.WORK) for _ in range(3)]
    settle(*waiters)

    def refused(waiter: Subscription) -> bool:
        with pytest.raises(StoreUnavailable, match="was closed already"):
            waiter.wait(LONG)
        return True

    *ended, _ = race(*(partial(refused, waiter) for waiter in waiters), store.close)
    assert ended == [True] * 3
    with pytest.raises(StoreUnavailable, match="was closed already"):
        store.subscribe(topics.WORK)


def test_the_child_of_a_fork_is_refused(ground: Ground, work: Subscription) -> None:
    if isinstance(ground, MemoryGround):
        pytest.skip("a store in memory is one process's own, and each has a copy after a fork")
    child = os.fork()
    if not child:
        try:
            work.wait(LONG)
        except StoreUnusable:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    work.wake()
    assert work.wait(LONG) is True


def test_the_clock_of_a_store_does_not_go_backwards(store: Store, clock: SteppedClock) -> None:
    before = store.now()
    clock.step(hours=-1)
    assert store.now() == before
    clock.step(hours=2)
    assert store.now() == before + timedelta(hours=1)


def test_the_store_follows_a_clock_that_was_corrected(store: Store, clock: SteppedClock) -> None:
    """Otherwise the time of a process would stay in the future as long as the clock was ahead."""
    before = store.now()
    clock.step(days=30)
    assert store.now() == before + timedelta(days=30)
    clock.step(days=-30, seconds=1)
    assert store.now() == before + timedelta(seconds=1)


def test_a_store_describes_itself(store: Store) -> None:
    store.add([new_job()])
    said = store.describe(thorough=True)
    assert said.durability in get_args(Durability)
    assert said.url
    assert said.details["jobs"] == "1"
    assert said.faults == ()


def test_migrating_a_store_that_is_up_to_date_changes_nothing(store: Store) -> None:
    store.add([new_job("a")])
    store.migrate()
    assert set(store.get(["a"])) == {"a"}


def test_a_store_may_be_closed_twice(ground: Ground) -> None:
    store = ground.open()
    store.add([new_job()])
    store.close()
    store.close()
