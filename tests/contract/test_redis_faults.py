"""A Redis that is disconnected at the worst moment: an unknown outcome is reported, and repeating is harmless.

Between the store and the server stands a proxy. It lets a request through and loses the reply, so that the server has
done what the store never hears of; or it is silent, or gone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from contract.grounds import RedisGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from facts import eventually
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service import worker_status
from queuectl.store.protocol import AttemptRef, Entry, Store, Swap
from queuectl.store.redis import RedisStore
from queuectl.store.redis.scripts import script
from servers.proxy import Proxy
from servers.redis import RedisServer
from servers.talk import RedisTalk

PATIENCE = 1.0
LITTLE = 3.0
"""Seconds that a busy machine may add."""


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
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with closing(Proxy(server.host, server.port, talk=RedisTalk)) as proxy:
        yield proxy


@pytest.fixture
def near(ground: RedisGround) -> Store:
    """A handle that nothing is in the way of."""
    return ground.open()


@pytest.fixture
def far(ground: RedisGround, near: Store, proxy: Proxy) -> Iterator[RedisStore]:
    """A connected handle behind the proxy, whose server has loaded all scripts."""
    with closing(behind(proxy, ground)) as store:
        store.counts(Filter())
        for verb in VERBS.values():
            verb(near)
        ground.empty()
        yield store
        proxy.pass_through()


def behind(proxy: Proxy, ground: RedisGround) -> RedisStore:
    """A handle whose every word passes the proxy."""
    url = ground.server.url(name=ground.name, host=proxy.host, port=proxy.port)
    return RedisStore(url, patience=PATIENCE, clock=ground.clock)


def asks(name: str) -> bytes:
    """The first bytes of a call of a script."""
    return script(name).digest.encode()


def claimed(store: Store, id: str = "a") -> Job:
    store.add([new_job(id)])
    return store.claim("w1", (), 1, LEASE)[0]


def ended(job: Job) -> Job:
    return lifecycle.finish(job, report(now=NOW), now=NOW, random_number=0.5)


def chunks(job: Job, *numbers: int) -> list[Chunk]:
    return [Chunk(job.id, job.attempt_id or "", n, 0, NOW, n, b"x") for n in numbers]


VERBS: dict[str, Callable[[Store], Any]] = {
    "add": lambda store: store.add([new_job("verb")]),
    "claim": lambda store: store.claim("w9", (), 1, LEASE),
    "renew": lambda store: store.renew("w1", [AttemptRef("a", "0" * 32)], LEASE),
    "save": lambda store: store.save([in_state("completed", "a")]),
    "write_output": lambda store: store.write_output([Chunk("a", "0" * 32, 1, 0, NOW, 0, b"x")]),
    "heartbeat": lambda store: store.heartbeat(worker("w1")),
    "instruct": lambda store: store.instruct("w1", "drain"),
    "swap": lambda store: store.swap([Swap("queues", "q", {"paused": True}, 0)]),
    "swap with a job": lambda store: store.swap([Swap("schedules", "s", {}, 0, adding=(new_job("verb"),))]),
    "purge": lambda store: (store.add([in_state("completed", "z")]), store.purge(Filter(), 9)),
    "forget": lambda store: store.forget("w1"),
}
"""Each verb that writes."""
LOOKS: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get(["a"]),
    "find": lambda store: list(worker_status.claimed_by(store, "w1")),
    "counts": lambda store: store.counts(Filter()),
    "expired_leases": lambda store: store.expired_leases(9),
    "read_output": lambda store: store.read_output("0" * 32, 0),
    "pending_instruction": lambda store: store.pending_instruction("w1"),
    "workers": lambda store: store.workers(),
    "read_table": lambda store: store.read_table("queues"),
    "upcoming": lambda store: store.upcoming(9),
    "describe": lambda store: store.describe(),
}
"""Each verb that does not."""


class TestLostReplies:
    """Each verb that writes is executed, its reply is lost, and repeating it is safe (guarantees G2 and G10)."""

    def lost(self, proxy: Proxy, name: str, verb: Callable[[], Any]) -> None:
        proxy.lose_reply(asks(name))
        with pytest.raises(OutcomeUnknown) as caught:
            verb()
        assert proxy.lost.wait(5)
        assert caught.value.hint == "repeating the same command is safe"

    def test_an_add_is_stored_and_a_repetition_is_existing(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        jobs = [new_job("a", content="x"), new_job("b", unique_key="k")]
        self.lost(proxy, "add", lambda: far.add(jobs))
        assert set(near.get(["a", "b"])) == {"a", "b"}
        assert [added.status for added in far.add(jobs)] == ["existing", "existing"]
        assert near.counts(Filter()).total() == 2

    def test_a_claim_is_found_under_the_id_of_the_worker(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([new_job("a"), new_job("b"), new_job("c")])
        self.lost(proxy, "claim", lambda: far.claim("w1", (), 2, LEASE))
        held = worker_status.claimed_by(far, "w1")
        assert {job.id for job in held} == {"a", "b"}
        again = far.claim("w1", (), 3, LEASE)
        assert [job.id for job in again] == ["c"]
        assert len({job.attempt_id for job in [*held, *again]}) == 3

    def test_the_lease_of_a_claim_with_a_lost_reply_expires(
        self, ground: RedisGround, near: Store, far: Store, proxy: Proxy
    ) -> None:
        near.add([new_job("a")])
        self.lost(proxy, "claim", lambda: far.claim("w1", (), 1, LEASE))
        assert near.expired_leases(9) == []
        ground.clock.step(seconds=LEASE.total_seconds())
        assert [job.id for job in near.expired_leases(9)] == ["a"]

    def test_a_save_is_stored_once_and_a_repetition_is_stale(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        done = ended(claimed(near))
        self.lost(proxy, "save", lambda: far.save([done]))
        stored = near.get(["a"])["a"]
        assert stored == replace(done, version=done.version + 1)
        assert statuses(far.save([done])) == ["stale"]
        assert near.get(["a"])["a"] == stored
        assert near.counts(Filter()).states() == {"completed": 1}

    def test_a_renewal_is_stored_and_can_be_repeated(self, near: Store, far: Store, proxy: Proxy) -> None:
        job = claimed(near)
        held = [AttemptRef(job.id, job.attempt_id or "")]
        self.lost(proxy, "renew", lambda: far.renew("w1", held, timedelta(hours=1)))
        [renewed] = near.get(["a"]).values()
        assert renewed.lease is not None
        assert renewed.lease.until == NOW + timedelta(hours=1)
        assert [fresh.id for fresh in far.renew("w1", held, LEASE)] == ["a"]

    def test_repeated_output_is_stored_once(self, near: Store, far: Store, proxy: Proxy) -> None:
        job = claimed(near)
        self.lost(proxy, "write_output", lambda: far.write_output(chunks(job, 1, 2, 3)))
        assert far.write_output(chunks(job, 1, 2, 3)) == set()
        assert near.read_output(job.attempt_id or "", 0) == chunks(job, 1, 2, 3)
        trims = [Trim(job.id, job.attempt_id or "", 1, 3)]
        self.lost(proxy, "write_output", lambda: far.write_output((), trims))
        assert far.write_output((), trims) == set()
        assert near.read_output(job.attempt_id or "", 0) == chunks(job, 1, 3)

    def test_a_swap_of_one_entry_is_stored_once(self, near: Store, far: Store, proxy: Proxy) -> None:
        self.lost(proxy, "swap", lambda: far.swap([Swap("queues", "q", {"paused": True}, 0)])[0])
        assert near.read_table("queues") == {"q": Entry({"paused": True}, 1)}
        assert far.swap([Swap("queues", "q", {"paused": True}, 0)])[0] is False
        self.lost(proxy, "swap", lambda: far.swap([Swap("queues", "q", None, 1)])[0])
        assert far.swap([Swap("queues", "q", None, 0)])[0] is True

    def test_heartbeat_instruction_and_forget_are_stored(self, near: Store, far: Store, proxy: Proxy) -> None:
        self.lost(proxy, "heartbeat", lambda: far.heartbeat(worker("w1")))
        assert [entry.id for entry in near.workers()] == ["w1"]
        self.lost(proxy, "instruct", lambda: far.instruct("w1", "drain"))
        assert far.heartbeat(worker("w1")) == "drain"
        self.lost(proxy, "forget_worker", lambda: far.forget("w1"))
        assert near.workers() == []
        far.forget("w1")

    def test_a_purge_is_stored_and_can_be_repeated(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([in_state("completed", "a"), in_state("completed", "b")])
        self.lost(proxy, "purge", lambda: far.purge(Filter(), 1))
        assert near.counts(Filter()).total() == 1
        assert len(far.purge(Filter(), 5)) == 1
        assert near.describe(thorough=True).faults == ()

    def test_a_read_with_a_lost_reply_is_unavailable(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([new_job("a")])
        proxy.lose_reply(asks("fetch"))
        with pytest.raises(StoreUnavailable):
            far.get(["a"])
        assert set(far.get(["a"])) == {"a"}


class TestSilence:
    """A silent server delays no call for longer than the timeout."""

    @pytest.mark.parametrize("verb", VERBS)
    def test_a_change_has_an_unknown_outcome_within_the_timeout(
        self, far: Store, proxy: Proxy, verb: str
    ) -> None:
        proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            VERBS[verb](far)
        assert time.monotonic() - began < PATIENCE + LITTLE

    @pytest.mark.parametrize("verb", LOOKS)
    def test_a_read_is_unavailable_within_the_timeout(self, far: Store, proxy: Proxy, verb: str) -> None:
        proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            LOOKS[verb](far)
        assert time.monotonic() - began < PATIENCE + LITTLE

    def test_a_connection_attempt_ends_within_the_timeout_and_sends_nothing(
        self, ground: RedisGround, proxy: Proxy
    ) -> None:
        proxy.black_hole()
        with closing(behind(proxy, ground)) as store:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.add([new_job("a")])
            assert time.monotonic() - began < 2 * PATIENCE + LITTLE

    def test_a_store_of_a_silent_server_can_be_closed(self, far: Store, proxy: Proxy) -> None:
        news = far.subscribe(topics.WORK)
        while news.wait(0.05):
            pass
        proxy.black_hole()
        began = time.monotonic()
        far.close()
        assert time.monotonic() - began < LITTLE

    def test_the_clock_advances_while_the_server_is_silent(self, ground: RedisGround, proxy: Proxy) -> None:
        url = ground.server.url(name=ground.name, host=proxy.host, port=proxy.port)
        with closing(RedisStore(url, patience=PATIENCE)) as store:
            before = store.now()
            proxy.black_hole()
            with pytest.raises(StoreUnavailable):
                store.counts(Filter())
            assert store.now() >= before

    def test_the_store_reconnects_to_a_server_that_was_paused(
        self, far: Store, near: Store, server: RedisServer
    ) -> None:
        server.pause()
        with pytest.raises(OutcomeUnknown):
            far.add([new_job("a")])
        server.resume()
        assert eventually(lambda: far.add([new_job("a")]))[0].status in ("added", "existing")
        assert near.counts(Filter()).total() == 1


class TestAbsence:
    """A server that cannot be reached is unavailable, and the first call after its return succeeds."""

    def test_a_connection_ended_between_two_calls_is_replaced(self, far: Store, proxy: Proxy) -> None:
        for number in range(5):
            proxy.reset()
            assert far.add([new_job(str(number))])[0].status == "added"

    def test_the_store_reconnects_after_a_half_open_connection(self, far: Store, proxy: Proxy) -> None:
        proxy.half_open()
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            far.add([new_job("a")])
        assert far.add([new_job("a")])[0].status in ("added", "existing")

    def test_a_refused_connection_is_unavailable_until_the_server_returns(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        proxy.refuse()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                far.add([new_job("a")])
        assert near.counts(Filter()).total() == 0
        proxy.pass_through()
        assert far.add([new_job("a")])[0].status == "added"

    @pytest.mark.parametrize("way", ["restart", "kill"])
    def test_the_store_reconnects_after_a_restart_between_two_calls(
        self, far: Store, server: RedisServer, way: str
    ) -> None:
        far.add([new_job("a")])
        getattr(server, way)()
        if way == "kill":
            assert answered(lambda: far.claim("w1", (), 1, LEASE)) is None
            server.start()
        assert [job.id for job in far.claim("w1", (), 1, LEASE)] == ["a"]

    def test_a_slow_network_causes_no_error(self, far: Store, proxy: Proxy) -> None:
        proxy.delay(0.05)
        assert far.add([new_job("a")])[0].status == "added"
        assert [job.id for job in far.claim("w1", (), 1, LEASE)] == ["a"]

    def test_a_subscription_works_again_after_an_outage(self, near: Store, far: Store, proxy: Proxy) -> None:
        news = far.subscribe(topics.WORK)
        far.claim("w1", (), 1, LEASE)
        while news.wait(0.1):
            pass
        proxy.refuse()
        with pytest.raises(StoreUnavailable):
            while True:
                news.wait(5.0)
        proxy.pass_through()
        while news.wait(0.1):
            pass
        near.add([new_job("a")])
        assert news.wait(20.0) is True


class TestForgottenScripts:
    def test_the_server_may_forget_scripts_at_any_time(self, near: Store, server: RedisServer) -> None:
        for look in (*VERBS.values(), *LOOKS.values()):
            server.call("SCRIPT", "FLUSH")
            look(near)
        assert near.describe(thorough=True).faults == ()

    def test_the_reply_to_a_script_sent_in_full_may_be_lost(
        self, near: Store, far: Store, proxy: Proxy, server: RedisServer
    ) -> None:
        server.call("SCRIPT", "FLUSH")
        proxy.lose_reply(b"new_job_that_is_lost")
        with pytest.raises(OutcomeUnknown):
            far.add([new_job("new_job_that_is_lost"), new_job("b")])
        assert [added.status for added in far.add([new_job("new_job_that_is_lost"), new_job("b")])] in (
            ["existing", "existing"],
            ["added", "added"],
        )
        assert near.counts(Filter()).total() == 2


class TestServerThatLoadsItsData:
    """A server that has just started loads its data first."""

    @pytest.fixture
    def reading(self, server: RedisServer) -> Iterator[RedisServer]:
        """A server that needs some seconds to load its data, and answers after each thousand writes."""
        with closing(RedisServer(server.product, key_load_delay=200)) as slow:
            slow.start()
            slow.call("EVAL", "for i = 1, 10000 do redis.call('SET', 'stranger:' .. i, i) end", 0)
            yield slow

    def test_a_server_is_unavailable_until_it_has_loaded_its_data(self, reading: RedisServer) -> None:
        ground = RedisGround(reading)
        with closing(RedisStore(ground.url, patience=PATIENCE)) as store:
            store.add([new_job("a")])
            reading.kill()
            reading.start_reading()
            with pytest.raises(StoreUnavailable, match="still reads its data from disk"):
                store.claim("w1", (), 1, LEASE)
            taken = eventually(lambda: answered(lambda: store.claim("w1", (), 1, LEASE)), within=30)
            assert [job.id for job in taken] == ["a"]


def answered(verb: Callable[[], Any]) -> Any:
    """The answer of the server, or None."""
    try:
        return verb()
    except (OutcomeUnknown, StoreUnavailable):
        return None
