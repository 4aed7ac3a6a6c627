"""A PostgreSQL that is disconnected at the worst moment: an unknown outcome is reported, and repeating is harmless.

Between the store and the server stands a proxy. It lets a request through and loses the reply, so that the server has
done what the store never hears of; or it is silent, or gone.
"""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from contract.grounds import PostgresGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service import worker_status
from queuectl.store.postgres import PostgresStore
from queuectl.store.protocol import AttemptRef, Entry, Store, Swap
from servers.postgres import GivenServer, PostgresServer
from servers.proxy import Proxy

PATIENCE = 1.0


@pytest.fixture
def ground(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresGround]:
    ground = PostgresGround(postgres_server)
    yield ground
    ground.close()


@pytest.fixture
def near(ground: PostgresGround) -> PostgresStore:
    """A handle that nothing is in the way of."""
    store = ground.open()
    assert isinstance(store, PostgresStore)
    return store


@pytest.fixture
def far(
    ground: PostgresGround,
    near: PostgresStore,
    proxy: Proxy,
    postgres_server: PostgresServer | GivenServer,
) -> Iterator[PostgresStore]:
    """A handle behind the proxy, connected."""
    url = postgres_server.url(host=proxy.host, port=proxy.port, schema=ground.schema)
    store = PostgresStore(url, patience=PATIENCE, clock_good_for=0)
    store.counts(Filter())
    yield store
    proxy.pass_through()
    store.close()


def claimed(near: Store) -> Job:
    near.add([new_job("a")])
    return near.claim("w1", (), 1, LEASE)[0]


class TestLostReplies:
    """Each verb that writes is executed, its reply is lost, and repeating it is safe (guarantees G2 and G10)."""

    def lost(self, proxy: Proxy, match: bytes, verb: Callable[[], Any]) -> None:
        proxy.lose_reply(match)
        with pytest.raises(OutcomeUnknown) as caught:
            verb()
        assert proxy.lost.wait(5)
        assert "repeating" in (caught.value.hint or "")

    def test_an_add_is_stored_and_a_repetition_is_existing(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        jobs = [new_job("a", content="x"), new_job("b", unique_key="k")]
        self.lost(proxy, b".add_", lambda: far.add(jobs))
        assert set(near.get(["a", "b"])) == {"a", "b"}
        assert [added.status for added in far.add(jobs)] == ["existing", "existing"]
        assert near.counts(Filter()).total() == 2

    def test_a_claim_is_found_under_the_id_of_the_worker(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([new_job("a"), new_job("b"), new_job("c")])
        self.lost(proxy, b".claim_", lambda: far.claim("w1", (), 2, LEASE))
        held = worker_status.claimed_by(far, "w1")
        assert {job.id for job in held} == {"a", "b"}
        again = far.claim("w1", (), 3, LEASE)
        assert [job.id for job in again] == ["c"]
        assert len({job.attempt_id for job in [*held, *again]}) == 3

    def test_a_save_is_stored_once_and_a_repetition_is_stale(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        ended = lifecycle.finish(claimed(near), report(now=NOW), now=NOW, random_number=0.5)
        self.lost(proxy, b".save_", lambda: far.save([ended]))
        stored = near.get(["a"])["a"]
        assert stored == replace(ended, version=ended.version + 1)
        assert statuses(far.save([ended])) == ["stale"]
        assert near.get(["a"])["a"] == stored

    def test_a_renewal_is_stored_and_can_be_repeated(self, near: Store, far: Store, proxy: Proxy) -> None:
        job = claimed(near)
        held = [AttemptRef(job.id, job.attempt_id or "")]
        self.lost(proxy, b".renew_", lambda: far.renew("w1", held, timedelta(hours=1)))
        [renewed] = near.get(["a"]).values()
        assert renewed.lease is not None
        assert renewed.lease.until == NOW + timedelta(hours=1)
        assert [fresh.id for fresh in far.renew("w1", held, LEASE)] == ["a"]

    def test_repeated_output_is_stored_once(self, near: Store, far: Store, proxy: Proxy) -> None:
        job = claimed(near)
        chunks = [Chunk(job.id, job.attempt_id or "", n, 0, NOW, n, b"x") for n in (1, 2)]
        self.lost(proxy, b".write_output(", lambda: far.write_output(chunks))
        assert far.write_output(chunks) == set()
        assert near.read_output(job.attempt_id or "", 0) == chunks

    def test_a_swap_of_one_entry_is_stored_once(self, near: Store, far: Store, proxy: Proxy) -> None:
        self.lost(proxy, b".swap(", lambda: far.swap([Swap("queues", "q", {"paused": True}, 0)])[0])
        assert near.read_table("queues") == {"q": Entry({"paused": True}, 1)}
        assert far.swap([Swap("queues", "q", {"paused": True}, 0)])[0] is False

    def test_heartbeat_and_instruction_are_stored(self, near: Store, far: Store, proxy: Proxy) -> None:
        self.lost(proxy, b"INSERT INTO", lambda: far.heartbeat(worker("w1")))
        assert [entry.id for entry in near.workers()] == ["w1"]
        self.lost(proxy, b"SET asked", lambda: far.instruct("w1", "drain"))
        assert far.heartbeat(worker("w1")) == "drain"

    def test_a_purge_is_stored_and_can_be_repeated(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([in_state("completed", "a"), in_state("completed", "b")])
        self.lost(proxy, b"COMMIT", lambda: far.purge(Filter(), 1))
        assert near.counts(Filter()).total() == 1
        assert len(far.purge(Filter(), 5)) == 1

    def test_a_read_is_repeated_by_the_store(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([new_job("a")])
        proxy.lose_reply(b"SELECT")
        assert set(far.get(["a"])) == {"a"}
        assert proxy.lost.wait(5)


class TestSilence:
    def test_a_read_from_a_silent_server_ends_within_the_timeout(self, far: Store, proxy: Proxy) -> None:
        proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            far.counts(Filter())
        assert time.monotonic() - began < PATIENCE + 3

    def test_a_change_has_an_unknown_outcome_within_the_timeout(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        proxy.black_hole_reply(b".add_")
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            far.add([new_job("a")])
        assert time.monotonic() - began < PATIENCE + 3
        assert set(near.get(["a"])) == {"a"}

    def test_a_connection_attempt_ends_within_the_timeout(self, far: Store, proxy: Proxy) -> None:
        proxy.reset()
        proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            far.counts(Filter())
        assert time.monotonic() - began < 2 * PATIENCE + 5

    def test_the_store_reconnects_after_a_half_open_connection(self, far: Store, proxy: Proxy) -> None:
        proxy.half_open()
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            far.add([new_job("a")])
        assert far.add([new_job("a")])[0].status == "added"

    def test_the_clock_advances_while_the_server_is_silent(
        self, far: PostgresStore, proxy: Proxy, ground: PostgresGround, postgres_server: Any
    ) -> None:
        url = postgres_server.url(host=proxy.host, port=proxy.port, schema=ground.schema)
        store = PostgresStore(url, patience=PATIENCE, clock_good_for=0.01)
        before = store.now()
        proxy.black_hole()
        for handle in (far, store):
            with pytest.raises(StoreUnavailable):
                handle.counts(Filter())
        assert store.now() >= before
        store.close()


class TestAbsence:
    def test_a_refused_connection_is_unavailable_until_the_server_returns(
        self, far: Store, proxy: Proxy
    ) -> None:
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                far.add([new_job("a")])
        proxy.pass_through()
        assert far.add([new_job("a")])[0].status == "added"

    def test_idle_connections_that_were_reset_are_replaced_silently(self, far: Store, proxy: Proxy) -> None:
        proxy.reset()
        assert far.add([new_job("a")])[0].status == "added"

    def test_a_slow_network_causes_no_error(self, far: Store, proxy: Proxy) -> None:
        proxy.delay(0.1)
        assert far.add([new_job("a")])[0].status == "added"
        assert [job.id for job in far.claim("w1", (), 1, LEASE)] == ["a"]

    def test_a_subscription_works_again_after_an_outage(self, near: Store, far: Store, proxy: Proxy) -> None:
        news = far.subscribe(topics.WORK)
        far.claim("w1", (), 1, LEASE)
        while news.wait(0.1):
            pass
        proxy.refuse()
        assert news.wait(5.0) is True
        with pytest.raises(StoreUnavailable):
            news.wait(0.1)
        proxy.pass_through()
        assert news.wait(5.0) is True
        while news.wait(0.2):
            pass
        near.add([new_job("a")])
        assert news.wait(20.0) is True

    def test_an_immediate_restart_loses_no_acknowledged_job(
        self, ground: PostgresGround, own_postgres: PostgresServer
    ) -> None:
        store = PostgresStore(ground.url)
        store.migrate()
        acknowledged = []
        for n in range(5):
            acknowledged += [added.job.id for added in store.add([new_job(f"{n}-{i}") for i in range(20)])]
            own_postgres.restart("immediate")
        assert {job.id for job in store.find(Filter(), Page(limit=1000)).jobs} == set(acknowledged)
        assert store.describe(thorough=True).faults == ()
        store.close()
        ground.admin.close()
        ground.admin = psycopg.connect(ground.plain_url, autocommit=True)
