"""A MongoDB store detects changes by following the log of notifications or by polling the counters."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from contract.grounds import MongoGround
from factories import new_job
from facts import eventually, stays_quiet
from queuectl.domain import topics
from queuectl.store.driver import notifier
from queuectl.store.mongo import MongoStore, notify
from queuectl.store.protocol import Subscription
from servers.mongo import GivenMongo, MongoServer
from servers.replica_set import ReplicaSet

SOON = 3.0
"""Seconds within which a notification arrives, even on a busy machine."""


@pytest.fixture(params=["mongo_server", "mongo_set"])
def ground(request: pytest.FixtureRequest) -> Iterator[MongoGround]:
    ground = MongoGround(request.getfixturevalue(request.param))
    yield ground
    ground.close()


@pytest.fixture(params=[True, False], ids=["follows", "polls"])
def store(request: pytest.FixtureRequest, ground: MongoGround) -> Iterator[MongoStore]:
    with opened(ground, listens=request.param) as store:
        yield store


@pytest.fixture
def work(store: MongoStore) -> Subscription:
    return settled(store, topics.WORK)


@contextmanager
def opened(ground: MongoGround, *, listens: bool) -> Iterator[MongoStore]:
    """A store; one that listens follows the log by now."""
    ground.open().migrate()
    with closing(MongoStore(f"{ground.url}&listen={'auto' if listens else 'no'}")) as store:
        if listens:
            settled(store, topics.WORK)
            eventually(lambda: store._listener.is_following, what="the log is followed")
        yield store


def settled(store: MongoStore, wanted: topics.Topics) -> Subscription:
    """A subscription that has taken in what has changed so far."""
    subscription = store.subscribe(wanted)
    settle(subscription)
    return subscription


def settle(subscription: Subscription) -> None:
    while subscription.wait(0.25):
        pass


def told_after(subscription: Subscription) -> float:
    began = time.monotonic()
    assert subscription.wait(30) is True
    return time.monotonic() - began


def test_a_notification_arrives_soon(ground: MongoGround, work: Subscription) -> None:
    threading.Timer(0.1, lambda: notify.send(ground.base, topics.WORK)).start()
    assert told_after(work) < SOON


def test_the_topics_work_and_ends_are_notified_separately(
    ground: MongoGround, store: MongoStore, work: Subscription
) -> None:
    ends = settled(store, topics.ENDS)
    notify.send(ground.base, topics.ENDS)
    assert told_after(ends) < SOON
    stays_quiet(work.wait, 0.6)
    notify.send(ground.base, topics.WORK)
    assert told_after(work) < SOON


def test_a_second_wake_up_covers_suppressed_notifications(ground: MongoGround, work: Subscription) -> None:
    """No notification is sent within 50 ms of the last one."""
    notify.send(ground.base, topics.WORK)
    assert told_after(work) < SOON
    assert told_after(work) < SOON
    stays_quiet(work.wait, 0.3)


def test_a_wait_ends_although_a_notification_was_lost(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "SAFETY_POLL", 0.5)
    assert told_after(settled(store, topics.WORK)) < SOON


def test_a_thread_that_follows_ends_with_its_store(ground: MongoGround) -> None:
    with opened(ground, listens=True) as store:
        follower = store._listener._follower
        assert follower is not None
        store.close()
        eventually(lambda: not follower._thread.is_alive(), what="the thread ended")


def test_the_rate_of_notifications_is_limited(ground: MongoGround) -> None:
    store = ground.open()
    store.migrate()
    before, began = notify.counters(ground.base), time.monotonic()
    for _ in range(60):
        store.add([new_job()])
    passed = time.monotonic() - began
    assert 1 <= notify.counters(ground.base)["work"] - before["work"] <= passed / 0.05 + 1


def test_a_clock_that_was_set_back_does_not_stop_notifications(ground: MongoGround) -> None:
    store = ground.open()
    store.migrate()
    later = datetime.now(UTC) + timedelta(hours=1)
    ground.base["bells"].update_one({"_id": "work"}, {"$set": {"at": later}})
    before = notify.counters(ground.base)["work"]
    store.add([new_job()])
    assert notify.counters(ground.base)["work"] == before + 1


def test_a_store_polls_if_the_log_cannot_be_followed(
    mongo_server: MongoServer | GivenMongo,
) -> None:
    """The log was created by another program and is not a capped collection."""
    ground = MongoGround(mongo_server)
    ground.base.create_collection("rings")
    store = ground.open()
    assert isinstance(store, MongoStore)
    work = settled(store, topics.WORK)
    follower = store._listener._follower
    assert follower is not None
    eventually(lambda: not follower._thread.is_alive())
    settle(work)
    notify.send(ground.base, topics.WORK)
    assert told_after(work) < SOON
    assert not store._listener.is_following
    ground.close()


def test_an_interrupted_log_is_polled_and_then_followed_again(ground: MongoGround) -> None:
    with opened(ground, listens=True) as store:
        work = settled(store, topics.WORK)
        admin = ground.base.client["admin"]
        ours = {"$match": {"ns": f"{ground.name}.rings", "type": {"$in": ["idleCursor", "op"]}}}
        found = admin.aggregate([{"$currentOp": {"idleCursors": True, "allUsers": True}}, ours])
        cursors = [op["cursor"]["cursorId"] for op in found if "cursor" in op]
        assert cursors
        ground.base.command("killCursors", "rings", cursors=cursors)
        notify.send(ground.base, topics.WORK)
        assert told_after(work) < SOON + notifier.SAFETY_POLL
        eventually(lambda: store._listener.is_following, within=20, what="it follows again")
        settle(work)
        threading.Timer(0.1, lambda: notify.send(ground.base, topics.WORK)).start()
        assert told_after(work) < SOON


def test_after_an_election_the_log_is_followed_again(mongo_set: ReplicaSet) -> None:
    ground = MongoGround(mongo_set)
    with opened(ground, listens=True) as store:
        work = settled(store, topics.WORK)
        mongo_set.step_down()
        eventually(lambda: store._listener.is_following, within=20, what="it follows again")
        settle(work)
        threading.Timer(0.1, lambda: notify.send(ground.base, topics.WORK)).start()
        assert told_after(work) < SOON + notifier.SAFETY_POLL
    ground.close()
