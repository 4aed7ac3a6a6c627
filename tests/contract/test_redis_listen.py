"""How a Redis store hears of what others do: by messages, by looks at the bells, or by itself in the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from contract.grounds import RedisGround
from factories import LEASE, new_job
from facts import eventually
from queuectl.errors import StoreUnavailable
from queuectl.store.protocol import Store
from queuectl.store.redis import RedisStore, listen
from queuectl.store.redis.connect import RedisSession
from queuectl.store.redis.listen import Listener
from servers.proxy import Proxy
from servers.redis import RedisServer
from servers.talk import RedisTalk

SOON = 3.0
"""Seconds within which a ring is heard, even on a machine that has a lot to do."""


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """One of each."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


@pytest.fixture
def ground(server: RedisServer) -> Iterator[RedisGround]:
    ground = RedisGround(server)
    yield ground
    ground.close()


@pytest.fixture
def ringer(ground: RedisGround) -> Store:
    """Somebody else."""
    store = ground.open()
    store.migrate()
    return store


@pytest.fixture(params=[True, False], ids=["follows", "polls"])
def ear(request: pytest.FixtureRequest, ground: RedisGround, ringer: Store) -> Iterator[Listener]:
    """One that has taken in all there was."""
    ear = Listener(connections(ground), listens=request.param)
    quiet(ear)
    yield ear
    ear.close()


def connections(ground: RedisGround) -> RedisSession:
    return ground.open().session  # type: ignore[attr-defined,no-any-return]


def quiet(ear: Listener | Store) -> None:
    """Take in what has changed so far."""
    while ear.wait(0.25):
        pass


def heard_after(ear: Listener) -> float:
    began = time.monotonic()
    assert ear.wait(30) is True
    return time.monotonic() - began


def ring(ringer: Store) -> None:
    """Make something that can be worked on, once a ring can be heard again."""
    eventually(lambda: not ringer.session.read(_has_just_rung))  # type: ignore[attr-defined]
    ringer.add([new_job()])


@contextmanager
def about_to_ring(ringer: Store) -> Iterator[None]:
    """Ring a moment after the block has begun; back when that is done."""
    timer = threading.Timer(0.1, ring, [ringer])
    timer.start()
    yield
    timer.join()


def _has_just_rung(line: object) -> bool:
    return bool(line.call("EXISTS", line.key("rang:work")))  # type: ignore[attr-defined]


def test_a_ring_is_heard_soon(ear: Listener, ringer: Store) -> None:
    with about_to_ring(ringer):
        assert heard_after(ear) < SOON


def test_a_worker_hears_of_work_and_not_of_ends(ground: RedisGround, ear: Listener, ringer: Store) -> None:
    ear.only_work()
    quiet(ear)
    ground.server.call("HINCRBY", f"{ground.tag}:bells", "end", 1)
    ground.server.call("PUBLISH", f"{ground.tag}:bells", "end")
    assert ear.wait(0.6) is False
    ring(ringer)
    assert heard_after(ear) < SOON


def test_after_a_ring_another_look_follows_by_itself(ear: Listener, ringer: Store) -> None:
    """What is rung within 50 ms of another ring is left out."""
    ring(ringer)
    assert heard_after(ear) < SOON
    assert heard_after(ear) < SOON
    assert ear.wait(0.3) is False


def test_whoever_is_woken_is_awake(ear: Listener) -> None:
    threading.Timer(0.05, ear.wake).start()
    assert heard_after(ear) < SOON


def test_without_a_ring_a_wait_ends_all_the_same(ear: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "REGARDLESS", 0.3)
    ear._unasked = 0.0
    assert ear.wait(0.1) is True
    assert heard_after(ear) < SOON


def test_a_ring_is_rare_however_many_ring(ground: RedisGround, ringer: Store) -> None:
    began = time.monotonic()
    for _ in range(60):
        ringer.add([new_job()])
    passed = time.monotonic() - began
    rings = int(ground.server.call("HGET", f"{ground.tag}:bells", "work"))
    assert 1 <= rings <= passed / 0.05 + 1


def test_a_url_may_ask_for_looks_only(ground: RedisGround, ringer: Store) -> None:
    with closing(RedisStore(ground.server.url(name=ground.name, listen="no"))) as store:
        quiet(store)
        assert subscribers(ground) == 0
        with about_to_ring(ringer):
            assert store.wait(30) is True
        assert store.describe().details["wake_up"] == "polling"


def subscribers(ground: RedisGround) -> int:
    return int(ground.server.call("PUBSUB", "NUMSUB", f"{ground.tag}:bells")[1])


def test_who_may_not_subscribe_looks(ground: RedisGround, ringer: Store, server: RedisServer) -> None:
    server.call("ACL", "SETUSER", "deaf", "on", ">word", "~*", "&*", "+@all", "-subscribe")
    with closing(RedisStore(server.url(name=ground.name, user="deaf", password="word"))) as store:
        quiet(store)
        with about_to_ring(ringer):
            assert store.wait(30) is True
        assert not store._listener.follows
        assert store.add([new_job("a")])[0].status == "added"
    server.call("ACL", "DELUSER", "deaf")


def test_who_may_use_no_channel_looks_and_works(
    ground: RedisGround, ringer: Store, server: RedisServer
) -> None:
    """As a new user of Valkey may not, unless told otherwise."""
    server.call("ACL", "SETUSER", "mute", "on", ">word", "~*", "resetchannels", "+@all")
    with closing(RedisStore(server.url(name=ground.name, user="mute", password="word"))) as store:
        quiet(store)
        eventually(lambda: not ringer.session.read(_has_just_rung))  # type: ignore[attr-defined]
        assert store.add([new_job("a")])[0].status == "added"
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]
    server.call("ACL", "DELUSER", "mute")


@pytest.fixture
def following(ground: RedisGround, ringer: Store) -> Iterator[Listener]:
    """One that follows."""
    with closing(Listener(connections(ground), listens=True)) as ear:
        quiet(ear)
        assert ear.follows
        yield ear


def test_a_subscription_that_is_ended_is_made_anew(
    ground: RedisGround, following: Listener, ringer: Store, server: RedisServer
) -> None:
    server.call("CLIENT", "KILL", "TYPE", "pubsub")
    assert heard_after(following) < SOON  # who knows what was missed
    quiet(following)
    eventually(lambda: subscribers(ground) == 1)
    with about_to_ring(ringer):
        assert heard_after(following) < SOON


def test_a_server_that_was_started_again_is_subscribed_to_anew(
    following: Listener, ringer: Store, server: RedisServer
) -> None:
    server.restart()
    eventually(lambda: heard_or_not(following), what="connected again")
    quiet(following)
    assert following.follows
    with about_to_ring(ringer):
        assert heard_after(following) < SOON


@pytest.mark.parametrize("way", ["half_open", "black_hole"])
def test_a_subscription_that_died_in_silence_is_found_out(
    ground: RedisGround, ringer: Store, server: RedisServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(listen, "REGARDLESS", 0.5)
    with closing(Proxy(server.host, server.port, talk=RedisTalk)) as proxy:
        url = server.url(name=ground.name, host=proxy.host, port=proxy.port)
        with closing(RedisStore(url, patience=1.0)) as store:
            ear = store._listener
            ear.wait(0.1)
            assert ear.follows
            before = ear._line
            getattr(proxy, way)()
            eventually(lambda: not heard_or_not(ear) or ear._line is not before)
            proxy.pass_through()
            eventually(lambda: heard_or_not(ear) and subscribers(ground) == 1, what="it follows again")
            monkeypatch.setattr(listen, "REGARDLESS", 60.0)
            quiet(ear)
            with about_to_ring(ringer):
                assert heard_after(ear) < SOON


def test_it_is_subscribed_again_after_however_many_attempts_in_vain(
    ground: RedisGround, ringer: Store, server: RedisServer
) -> None:
    """A worker that waits tries again every second, all night."""
    with closing(Proxy(server.host, server.port, talk=RedisTalk)) as proxy:
        url = server.url(name=ground.name, host=proxy.host, port=proxy.port)
        with closing(RedisStore(url, patience=1.0)) as store:
            quiet(store)
            proxy.refuse()
            for _ in range(200):
                with pytest.raises(StoreUnavailable):
                    store.session.own()
            proxy.pass_through()
            eventually(lambda: heard_or_not(store._listener) and store._listener.follows)
            quiet(store)
            with about_to_ring(ringer):
                assert heard_after(store._listener) < SOON


def test_a_subscription_that_lives_is_kept(following: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "REGARDLESS", 0.1)
    following._unasked = 0.0
    before = following._line
    for _ in range(5):
        assert heard_after(following) < SOON
    assert following._line is before


def heard_or_not(ear: Listener) -> bool:
    """Whether a wait ends without trouble."""
    try:
        ear.wait(0.05)
    except StoreUnavailable:
        return False
    return True


def test_closing_ends_the_subscription(ground: RedisGround, following: Listener) -> None:
    assert subscribers(ground) == 1
    following.close()
    eventually(lambda: subscribers(ground) == 0)
