"""How a MongoDB store hears of what others do: by the log of the bells, by looks at them, or by itself in the end."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from contract.grounds import MongoGround
from factories import new_job
from facts import eventually
from queuectl.store.mongo import listen, notify
from queuectl.store.mongo.listen import Listener
from servers.mongo import GivenMongo, MongoServer
from servers.replica_set import ReplicaSet

SOON = 3.0
"""Seconds within which a ring is heard, even on a machine that has a lot to do."""


@pytest.fixture(params=["mongo_server", "mongo_set"])
def ground(request: pytest.FixtureRequest) -> Iterator[MongoGround]:
    ground = MongoGround(request.getfixturevalue(request.param))
    yield ground
    ground.close()


@pytest.fixture(params=[True, False], ids=["follows", "polls"])
def ear(request: pytest.FixtureRequest, ground: MongoGround) -> Iterator[Listener]:
    """One that has taken in all there was."""
    yield from an_ear(ground, listens=request.param)


def an_ear(ground: MongoGround, *, listens: bool) -> Iterator[Listener]:
    ear = Listener(ground.open().session, listens=listens)  # type: ignore[attr-defined]
    quiet(ear)
    if listens:
        eventually(lambda: ear.follows, what="the log is followed")
        quiet(ear)
    yield ear
    ear.close()


def quiet(ear: Listener) -> None:
    """Take in what has changed so far."""
    while ear.wait(0.25):
        pass


def heard_after(ear: Listener) -> float:
    began = time.monotonic()
    assert ear.wait(30) is True
    return time.monotonic() - began


def test_a_ring_is_heard_soon(ground: MongoGround, ear: Listener) -> None:
    threading.Timer(0.1, lambda: notify.send(ground.base, notify.WORK)).start()
    assert heard_after(ear) < SOON


def test_a_worker_hears_of_work_and_not_of_ends(ground: MongoGround, ear: Listener) -> None:
    ear.only_work()
    quiet(ear)
    notify.send(ground.base, notify.END)
    assert ear.wait(0.6) is False
    notify.send(ground.base, notify.WORK)
    assert heard_after(ear) < SOON


def test_after_a_ring_another_look_follows_by_itself(ground: MongoGround, ear: Listener) -> None:
    """What is rung within 50 ms of another ring is left out."""
    notify.send(ground.base, notify.WORK)
    assert heard_after(ear) < SOON
    assert heard_after(ear) < SOON
    assert ear.wait(0.3) is False


def test_whoever_is_woken_is_awake(ear: Listener) -> None:
    threading.Timer(0.05, ear.wake).start()
    assert heard_after(ear) < SOON


def test_without_a_ring_a_wait_ends_all_the_same(ear: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "REGARDLESS", 0.3)
    ear._unasked = 0.0
    quiet_once = ear.wait(0.1)
    assert heard_after(ear) < SOON
    assert quiet_once is True


def test_a_thread_that_follows_ends_when_it_is_told_to(ground: MongoGround) -> None:
    store = ground.open()
    while store.wait(0.1):
        pass
    listener = store._listener._listener  # type: ignore[attr-defined]
    eventually(lambda: listener.open, what="the log is followed")
    store.close()
    eventually(lambda: not listener._thread.is_alive(), what="the thread ended")


def test_a_ring_is_rare_however_many_ring(ground: MongoGround) -> None:
    store = ground.open()
    store.migrate()
    before, began = notify.counters(ground.base), time.monotonic()
    for _ in range(60):
        store.add([new_job()])
    passed = time.monotonic() - began
    assert 1 <= notify.counters(ground.base)["work"] - before["work"] <= passed / 0.05 + 1


def test_a_clock_that_was_set_back_does_not_silence_the_bells(ground: MongoGround) -> None:
    store = ground.open()
    store.migrate()
    later = datetime.now(UTC) + timedelta(hours=1)
    ground.base["bells"].update_one({"_id": "work"}, {"$set": {"at": later}})
    before = notify.counters(ground.base)["work"]
    store.add([new_job()])
    assert notify.counters(ground.base)["work"] == before + 1


def test_who_may_not_follow_polls(mongo_server: MongoServer | GivenMongo) -> None:
    """The log was made by somebody else, and is no capped collection."""
    ground = MongoGround(mongo_server)
    ground.base.create_collection("rings")
    for ear in an_ear_that_cannot_follow(ground):
        notify.send(ground.base, notify.WORK)
        assert heard_after(ear) < SOON
        assert not ear.follows
    ground.close()


def an_ear_that_cannot_follow(ground: MongoGround) -> Iterator[Listener]:
    ear = Listener(ground.open().session, listens=True)  # type: ignore[attr-defined]
    quiet(ear)
    listener = ear._listener
    assert listener is not None
    eventually(lambda: not listener.open)
    yield ear
    ear.close()


def test_when_the_log_breaks_off_it_is_followed_anew_and_polled_meanwhile(ground: MongoGround) -> None:
    for ear in an_ear(ground, listens=True):
        admin = ground.base.client["admin"]
        ours = {"$match": {"ns": f"{ground.name}.rings", "type": {"$in": ["idleCursor", "op"]}}}
        found = admin.aggregate([{"$currentOp": {"idleCursors": True, "allUsers": True}}, ours])
        cursors = [op["cursor"]["cursorId"] for op in found if "cursor" in op]
        assert cursors
        ground.base.command("killCursors", "rings", cursors=cursors)
        notify.send(ground.base, notify.WORK)
        assert heard_after(ear) < SOON + listen.REGARDLESS
        eventually(lambda ear=ear: ear.follows, within=20, what="it follows again")
        quiet(ear)
        threading.Timer(0.1, lambda: notify.send(ground.base, notify.WORK)).start()
        assert heard_after(ear) < SOON


def test_after_an_election_it_is_followed_anew(mongo_set: ReplicaSet) -> None:
    ground = MongoGround(mongo_set)
    for ear in an_ear(ground, listens=True):
        mongo_set.step_down()
        eventually(lambda ear=ear: ear.follows, within=20, what="it follows again")
        quiet(ear)
        threading.Timer(0.1, lambda: notify.send(ground.base, notify.WORK)).start()
        assert heard_after(ear) < SOON + listen.REGARDLESS
    ground.close()
