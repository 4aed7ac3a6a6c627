"""`wait` and `wake`: a hint that something may have changed. And what every store says of itself."""

import threading
from datetime import timedelta
from typing import get_args

import pytest

from contract.grounds import Ground, SteppedClock, race
from factories import LEASE, new_job
from queuectl.store.protocol import Durability, Store

LONG = 20.0


def settle(store: Store) -> None:
    """Take in what has changed so far."""
    store.claim("w1", (), 1, LEASE)
    while store.wait(0.05):
        pass


def test_a_wait_ends_after_its_time_when_nothing_changes(store: Store) -> None:
    settle(store)
    assert store.wait(0.02) is False
    assert store.wait(0) is False


def test_a_wait_ends_at_once_when_it_is_woken(store: Store) -> None:
    settle(store)
    assert race(lambda: store.wait(LONG), store.wake)[0] is True


def test_a_wake_before_the_wait_is_not_lost(store: Store) -> None:
    settle(store)
    store.wake()
    assert store.wait(LONG) is True
    assert store.wait(0.02) is False


def test_all_who_wait_are_woken(store: Store) -> None:
    settle(store)
    waiting = [threading.Thread(target=store.wait, args=(LONG,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while any(thread.is_alive() for thread in waiting):
        store.wake()
        waiting[0].join(0.01)


@pytest.mark.doubles
def test_a_wait_notices_what_another_handle_does(store: Store, other: Store) -> None:
    settle(store)
    assert race(lambda: store.wait(LONG), lambda: other.add([new_job()]))[0] is True


def test_what_happened_since_the_last_claim_is_noticed(store: Store, other: Store) -> None:
    settle(store)
    other.add([new_job("a")])
    assert store.wait(LONG) is True
    assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]


def test_the_clock_of_a_store_does_not_go_backwards(store: Store, clock: SteppedClock) -> None:
    before = store.now()
    clock.step(hours=-1)
    assert store.now() == before
    clock.step(hours=2)
    assert store.now() == before + timedelta(hours=1)


def test_a_clock_that_was_set_right_is_followed(store: Store, clock: SteppedClock) -> None:
    """Else a process would stay in the future for as long as the clock had been ahead."""
    before = store.now()
    clock.step(days=30)
    assert store.now() == before + timedelta(days=30)
    clock.step(days=-30, seconds=1)
    assert store.now() == before + timedelta(seconds=1)


def test_a_store_says_what_it_is(store: Store) -> None:
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


def test_closing_twice_is_closing_once(ground: Ground) -> None:
    store = ground.open()
    store.add([new_job()])
    store.close()
    store.close()
