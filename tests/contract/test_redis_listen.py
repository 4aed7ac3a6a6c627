"""A Redis store detects changes by messages or by polling the counters."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from contract.grounds import RedisGround
from factories import LEASE, new_job
from facts import eventually, stays_quiet
from queuectl.domain import topics
from queuectl.errors import StoreUnavailable
from queuectl.store.driver import notifier
from queuectl.store.protocol import Store, Subscription
from queuectl.store.redis import RedisStore
from servers.proxy import Proxy
from servers.redis import RedisServer
from servers.talk import RedisTalk

SOON = 3.0
"""Seconds within which a notification arrives, even on a busy machine."""


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis and a Valkey."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


@pytest.fixture
def ground(server: RedisServer) -> Iterator[RedisGround]:
    ground = RedisGround(server)
    yield ground
    ground.close()


@pytest.fixture
def other(ground: RedisGround) -> Store:
    """The handle that changes something."""
    store = ground.open()
    store.migrate()
    return store


@pytest.fixture(params=["auto", "no"], ids=["subscribes", "polls"])
def store(request: pytest.FixtureRequest, ground: RedisGround, other: Store) -> Iterator[RedisStore]:
    with closing(RedisStore(ground.server.url(name=ground.name, listen=request.param))) as store:
        yield store


@pytest.fixture
def work(store: RedisStore) -> Subscription:
    return settled(store)


def settled(store: Store, wanted: topics.Topics = topics.WORK) -> Subscription:
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


def notify(other: Store) -> None:
    """Add a job, once a notification is not left out any more."""
    eventually(lambda: not other.session.read(_has_just_notified))  # type: ignore[attr-defined]
    other.add([new_job()])


@contextmanager
def about_to_notify(other: Store) -> Iterator[None]:
    """Notify a moment after the block has begun; back when that is done."""
    timer = threading.Timer(0.1, notify, [other])
    timer.start()
    yield
    timer.join()


def _has_just_notified(line: object) -> bool:
    return bool(line.call("EXISTS", line.key("rang:work")))  # type: ignore[attr-defined]


def test_a_notification_arrives_soon(work: Subscription, other: Store) -> None:
    with about_to_notify(other):
        assert told_after(work) < SOON


def test_the_topics_work_and_ends_are_notified_separately(
    ground: RedisGround, store: RedisStore, work: Subscription, other: Store
) -> None:
    ends = settled(store, topics.ENDS)
    ground.server.call("HINCRBY", f"{ground.tag}:bells", "end", 1)
    ground.server.call("PUBLISH", f"{ground.tag}:bells", "end")
    assert told_after(ends) < SOON
    stays_quiet(work.wait, 0.6)
    notify(other)
    assert told_after(work) < SOON


def test_a_second_wake_up_covers_suppressed_notifications(work: Subscription, other: Store) -> None:
    """A script sends no notification within 50 ms of the last one."""
    notify(other)
    assert told_after(work) < SOON
    assert told_after(work) < SOON
    stays_quiet(work.wait, 0.3)


def test_a_wait_ends_although_a_message_was_lost(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "SAFETY_POLL", 0.5)
    assert told_after(settled(store)) < SOON


def test_the_rate_of_notifications_is_limited(ground: RedisGround, other: Store) -> None:
    began = time.monotonic()
    for _ in range(60):
        other.add([new_job()])
    passed = time.monotonic() - began
    count = int(ground.server.call("HGET", f"{ground.tag}:bells", "work"))
    assert 1 <= count <= passed / 0.05 + 1


def test_a_url_may_ask_for_polling(ground: RedisGround, other: Store) -> None:
    with closing(RedisStore(ground.server.url(name=ground.name, listen="no"))) as store:
        work = settled(store)
        assert subscribers(ground) == 0
        with about_to_notify(other):
            assert work.wait(30) is True
        assert store.describe().details["wake_up"] == "polling"


def subscribers(ground: RedisGround) -> int:
    return int(ground.server.call("PUBSUB", "NUMSUB", f"{ground.tag}:bells")[1])


def test_a_store_of_a_user_without_the_right_to_subscribe_polls(
    ground: RedisGround, other: Store, server: RedisServer
) -> None:
    server.call("ACL", "SETUSER", "deaf", "on", ">word", "~*", "&*", "+@all", "-subscribe")
    with closing(RedisStore(server.url(name=ground.name, user="deaf", password="word"))) as store:
        work = settled(store)
        with about_to_notify(other):
            assert work.wait(30) is True
        assert not store._listener.is_subscribed
        assert store.add([new_job("a")])[0].status == "added"
    server.call("ACL", "DELUSER", "deaf")


def test_a_store_of_a_user_without_channels_polls(
    ground: RedisGround, other: Store, server: RedisServer
) -> None:
    """A new user of Valkey has no channels by default."""
    server.call("ACL", "SETUSER", "mute", "on", ">word", "~*", "resetchannels", "+@all")
    with closing(RedisStore(server.url(name=ground.name, user="mute", password="word"))) as store:
        settled(store)
        eventually(lambda: not other.session.read(_has_just_notified))  # type: ignore[attr-defined]
        assert store.add([new_job("a")])[0].status == "added"
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]
    server.call("ACL", "DELUSER", "mute")


@pytest.fixture
def subscribed(ground: RedisGround, other: Store) -> Iterator[RedisStore]:
    """A store that is subscribed to messages."""
    with closing(RedisStore(ground.server.url(name=ground.name))) as store:
        settled(store)
        assert store._listener.is_subscribed
        yield store


def test_one_connection_serves_all_subscriptions(ground: RedisGround, subscribed: RedisStore) -> None:
    for _ in range(4):
        settled(subscribed)
    assert subscribers(ground) == 1


def test_an_ended_connection_is_replaced(
    ground: RedisGround, subscribed: RedisStore, other: Store, server: RedisServer
) -> None:
    work = settled(subscribed)
    server.call("CLIENT", "KILL", "TYPE", "pubsub")
    assert told_after(work) < SOON  # notifications may have been missed
    settle(work)
    eventually(lambda: subscribers(ground) == 1)
    with about_to_notify(other):
        assert told_after(work) < SOON


def test_the_store_subscribes_again_after_a_restart(
    subscribed: RedisStore, other: Store, server: RedisServer
) -> None:
    work = settled(subscribed)
    server.restart()
    eventually(lambda: waits_without_fault(work), what="connected again")
    settle(work)
    assert subscribed._listener.is_subscribed
    with about_to_notify(other):
        assert told_after(work) < SOON


@pytest.mark.parametrize("way", ["half_open", "black_hole"])
def test_a_half_open_connection_is_detected(
    ground: RedisGround, other: Store, server: RedisServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(notifier, "SAFETY_POLL", 0.5)
    with closing(Proxy(server.host, server.port, talk=RedisTalk)) as proxy:
        url = server.url(name=ground.name, host=proxy.host, port=proxy.port)
        with closing(RedisStore(url, patience=1.0)) as store:
            work = store.subscribe(topics.WORK)
            work.wait(0.1)
            assert store._listener.is_subscribed
            before = store._listener._line
            getattr(proxy, way)()
            eventually(lambda: not waits_without_fault(work) or store._listener._line is not before)
            proxy.pass_through()
            eventually(
                lambda: waits_without_fault(work) and subscribers(ground) == 1, what="it is subscribed again"
            )
            monkeypatch.setattr(notifier, "SAFETY_POLL", 60.0)
            fresh = settled(store)
            with about_to_notify(other):
                assert told_after(fresh) < SOON


def test_the_store_subscribes_again_after_many_failed_attempts(
    ground: RedisGround, other: Store, server: RedisServer
) -> None:
    """A waiting worker may try again every second for hours."""
    with closing(Proxy(server.host, server.port, talk=RedisTalk)) as proxy:
        url = server.url(name=ground.name, host=proxy.host, port=proxy.port)
        with closing(RedisStore(url, patience=1.0)) as store:
            work = settled(store)
            proxy.refuse()
            for _ in range(200):
                with pytest.raises(StoreUnavailable):
                    store.session.own()
            proxy.pass_through()
            eventually(lambda: waits_without_fault(work) and store._listener.is_subscribed)
            settle(work)
            with about_to_notify(other):
                assert told_after(work) < SOON


def test_a_working_connection_is_not_replaced(
    subscribed: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "SAFETY_POLL", 0.1)
    subscribed._listener._check_later()
    before, work = subscribed._listener._line, subscribed.subscribe(topics.WORK)
    for _ in range(5):
        assert told_after(work) < SOON
    assert subscribed._listener._line is before


def waits_without_fault(subscription: Subscription) -> bool:
    try:
        subscription.wait(0.05)
    except StoreUnavailable:
        return False
    return True


def test_closing_ends_the_subscription(ground: RedisGround, subscribed: RedisStore) -> None:
    assert subscribers(ground) == 1
    subscribed.close()
    eventually(lambda: subscribers(ground) == 0)
