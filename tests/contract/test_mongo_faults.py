"""A MongoDB that is disconnected at the worst moment: an unknown outcome is reported, and repeating is harmless.

Between the store and the server stands a proxy. It lets a request through and loses the reply, so that the server has
done what the store never hears of; or it is silent, or gone.
"""

import struct
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from contract.grounds import MongoGround
from contract.mongo_witness import on_each
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from facts import eventually
from queuectl.domain import lifecycle, topics
from queuectl.domain.event import between
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service import worker_status
from queuectl.store.mongo import MongoStore
from queuectl.store.protocol import AttemptRef, Entry, Store, Swap
from servers.mongo import GivenMongo, MongoServer
from servers.proxy import Proxy
from servers.replica_set import ReplicaSet
from servers.talk import MongoTalk

PATIENCE = 1.0


@pytest.fixture
def ground(mongo_ground: MongoGround) -> MongoGround:
    return mongo_ground


@pytest.fixture
def near(ground: MongoGround) -> Store:
    """A handle that nothing is in the way of."""
    store = ground.open()
    store.migrate()
    return store


@pytest.fixture
def far(
    ground: MongoGround, near: Store, mongo_proxy: Proxy, mongo_server: MongoServer | GivenMongo
) -> Iterator[MongoStore]:
    """A handle behind the proxy, connected."""
    store = behind(mongo_proxy, ground, mongo_server)
    yield store
    mongo_proxy.pass_through()
    store.close()


def behind(proxy: Proxy, ground: MongoGround, server: Any, **options: Any) -> MongoStore:
    """A handle whose every word passes the proxy."""
    url = server.url(ground.name, host=proxy.host, port=proxy.port, directConnection="true")
    store = MongoStore(url, patience=PATIENCE, clock=ground.clock, **options)
    store.counts(Filter())
    return store


def asks(command: str, collection: str) -> bytes:
    """The first bytes of a command on a collection, as sent to the server."""
    name = collection.encode() + b"\0"
    return b"\x02" + command.encode() + b"\0" + struct.pack("<i", len(name)) + name


def claimed(near: Store, id: str = "a") -> Job:
    near.add([new_job(id)])
    return near.claim("w1", (), 1, LEASE)[0]


def ended(job: Job) -> Job:
    return lifecycle.finish(job, report(now=NOW), now=NOW, random_number=0.5)


class TestLostReplies:
    """Each verb that writes is executed, its reply is lost, and repeating it is safe (guarantees G2 and G10)."""

    def lost(self, proxy: Proxy, command: str, collection: str, verb: Callable[[], Any]) -> None:
        proxy.lose_reply(asks(command, collection))
        with pytest.raises(OutcomeUnknown) as caught:
            verb()
        assert proxy.lost.wait(5)
        assert "repeating" in (caught.value.hint or "")

    def test_an_add_is_stored_and_a_repetition_is_existing(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        jobs = [new_job("a", content="x"), new_job("b", unique_key="k")]
        self.lost(mongo_proxy, "insert", "jobs", lambda: far.add(jobs))
        assert set(near.get(["a", "b"])) == {"a", "b"}
        assert [added.status for added in far.add(jobs)] == ["existing", "existing"]
        assert near.counts(Filter()).total() == 2

    def test_an_add_that_only_got_its_numbers_starts_again(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        mongo_proxy.lose_reply(asks("findAndModify", "counters"))
        assert far.add([new_job("a")])[0].status == "added"
        assert mongo_proxy.lost.is_set()
        assert near.counts(Filter()).total() == 1

    def test_an_add_whose_notification_is_lost_is_stored(self, far: Store, mongo_proxy: Proxy) -> None:
        self.lost(mongo_proxy, "update", "bells", lambda: far.add([new_job("a")]))
        assert far.add([new_job("a")])[0].status == "existing"

    def test_a_claim_is_found_under_the_id_of_the_worker(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        near.add([new_job("a"), new_job("b"), new_job("c")])
        self.lost(mongo_proxy, "update", "jobs", lambda: far.claim("w1", (), 2, LEASE))
        held = worker_status.claimed_by(far, "w1")
        assert {job.id for job in held} == {"a", "b"}
        again = far.claim("w1", (), 3, LEASE)
        assert [job.id for job in again] == ["c"]
        assert len({job.attempt_id for job in [*held, *again]}) == 3

    def test_the_lease_of_a_claim_with_a_lost_reply_expires(
        self, ground: MongoGround, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        near.add([new_job("a")])
        self.lost(mongo_proxy, "update", "jobs", lambda: far.claim("w1", (), 1, LEASE))
        assert near.expired_leases(9) == []
        ground.clock.step(seconds=LEASE.total_seconds())
        assert [job.id for job in near.expired_leases(9)] == ["a"]

    def test_a_claim_of_a_limited_queue_with_a_lost_reply_blocks_no_other(
        self, ground: MongoGround, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        near.add([new_job("a"), new_job("b")])
        near.swap([Swap("queues", "default", {"paused": False, "limit": 1}, 0)])
        self.lost(mongo_proxy, "findAndModify", "shared", lambda: far.claim("w1", (), 1, LEASE))
        assert near.counts(Filter()).of("processing") == 0
        ground.clock.step(seconds=5)
        assert [job.id for job in near.claim("w2", (), 9, LEASE)] == ["a"]

    def test_a_save_is_stored_once_and_a_repetition_is_stale(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        done = ended(claimed(near))
        self.lost(mongo_proxy, "update", "jobs", lambda: far.save([done]))
        stored = near.get(["a"])["a"]
        assert stored == replace(done, version=done.version + 1)
        assert statuses(far.save([done])) == ["stale"]
        assert near.get(["a"])["a"] == stored
        assert near.counts(Filter()).states() == {"completed": 1}

    def test_a_renewal_is_stored_and_can_be_repeated(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        job = claimed(near)
        held = [AttemptRef(job.id, job.attempt_id or "")]
        self.lost(mongo_proxy, "update", "jobs", lambda: far.renew("w1", held, timedelta(hours=1)))
        [renewed] = near.get(["a"]).values()
        assert renewed.lease is not None
        assert renewed.lease.until == NOW + timedelta(hours=1)
        assert [fresh.id for fresh in far.renew("w1", held, LEASE)] == ["a"]

    def test_repeated_output_is_stored_once(self, near: Store, far: Store, mongo_proxy: Proxy) -> None:
        job = claimed(near)
        chunks = [Chunk(job.id, job.attempt_id or "", n, 0, NOW, n, b"x") for n in (1, 2, 3)]
        self.lost(mongo_proxy, "insert", "output", lambda: far.write_output(chunks))
        assert far.write_output(chunks) == set()
        assert near.read_output(job.attempt_id or "", 0) == chunks
        trims = [Trim(job.id, job.attempt_id or "", 1, 3)]
        self.lost(mongo_proxy, "delete", "output", lambda: far.write_output((), trims))
        assert far.write_output((), trims) == set()
        assert [chunk.n for chunk in near.read_output(job.attempt_id or "", 0)] == [1, 3]

    def test_a_swap_of_one_entry_is_stored_once(self, near: Store, far: Store, mongo_proxy: Proxy) -> None:
        self.lost(
            mongo_proxy, "insert", "shared", lambda: far.swap([Swap("queues", "q", {"paused": True}, 0)])[0]
        )
        assert near.read_table("queues") == {"q": Entry({"paused": True}, 1)}
        assert far.swap([Swap("queues", "q", {"paused": True}, 0)])[0] is False
        self.lost(
            mongo_proxy, "update", "shared", lambda: far.swap([Swap("queues", "q", {"paused": False}, 1)])[0]
        )
        assert near.read_table("queues") == {"q": Entry({"paused": False}, 2)}
        self.lost(mongo_proxy, "delete", "shared", lambda: far.swap([Swap("queues", "q", None, 2)])[0])
        assert far.swap([Swap("queues", "q", None, 0)])[0] is True

    @pytest.mark.parametrize(
        ("command", "collection"), [("insert", "events"), ("update", "counters"), ("update", "jobs")]
    )
    def test_a_read_of_events_goes_on_and_returns_each_event_once(
        self, near: Store, far: Store, mongo_proxy: Proxy, command: str, collection: str
    ) -> None:
        jobs = [new_job("a"), new_job("b")]
        near.add(jobs, [between(None, job) for job in jobs])
        mongo_proxy.lose_reply(asks(command, collection))
        assert [event.job for _, event in far.read_events(None, 9).events] == ["a", "b"]
        assert mongo_proxy.lost.is_set()
        assert len(near.read_events(None, 9).events) == 2

    def test_a_trim_of_events_can_be_repeated(self, near: Store, far: Store, mongo_proxy: Proxy) -> None:
        jobs = [new_job("a"), new_job("b"), new_job("c")]
        near.add(jobs, [between(None, job) for job in jobs])
        near.read_events(None, 9)
        mongo_proxy.lose_reply(asks("delete", "events"))
        far.trim_events(NOW, 1, 99)
        assert mongo_proxy.lost.is_set()
        assert [event.job for _, event in near.read_events(None, 9).events] == ["c"]

    def test_heartbeat_instruction_and_forget_are_stored(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        self.lost(mongo_proxy, "findAndModify", "workers", lambda: far.heartbeat(worker("w1")))
        assert [entry.id for entry in near.workers()] == ["w1"]
        self.lost(mongo_proxy, "update", "workers", lambda: far.instruct("w1", "drain"))
        assert far.heartbeat(worker("w1")) == "drain"
        self.lost(mongo_proxy, "delete", "workers", lambda: far.forget("w1"))
        assert near.workers() == []
        far.forget("w1")

    @pytest.mark.parametrize(("command", "collection"), [("update", "jobs"), ("delete", "output")])
    def test_a_purge_is_stored_and_can_be_repeated(
        self, near: Store, far: Store, mongo_proxy: Proxy, command: str, collection: str
    ) -> None:
        near.add([in_state("completed", "a"), in_state("completed", "b")])
        self.lost(mongo_proxy, command, collection, lambda: far.purge(Filter(), 1))
        assert near.counts(Filter()).total() == 1
        assert len(far.purge(Filter(), 5)) == 1
        assert near.describe(thorough=True).faults == ()

    def test_a_read_is_repeated_by_the_store(self, near: Store, far: Store, mongo_proxy: Proxy) -> None:
        near.add([new_job("a")])
        mongo_proxy.lose_reply(asks("find", "jobs"))
        assert set(far.get(["a"])) == {"a"}
        assert mongo_proxy.lost.wait(5)

    def test_a_claim_whose_first_read_is_lost_reads_again(
        self, near: Store, far: MongoStore, mongo_proxy: Proxy
    ) -> None:
        near.add([new_job("a")])
        mongo_proxy.lose_reply(asks("find", "jobs"))
        assert [job.id for job in far.claim("w1", (), 1, LEASE)] == ["a"]
        assert mongo_proxy.lost.is_set()

    def test_a_claim_that_cannot_read_its_jobs_is_found_under_its_worker(
        self, near: Store, far: MongoStore, mongo_proxy: Proxy
    ) -> None:
        near.add([new_job("a")])

        def lose(event: Any) -> None:
            if event.command_name == "update" and event.command["update"] == "jobs":
                mongo_proxy.lose_reply(asks("find", "jobs"))

        on_each(far, lose)
        with pytest.raises(OutcomeUnknown):
            far.claim("w1", (), 1, LEASE)
        assert [job.id for job in worker_status.claimed_by(far, "w1")] == ["a"]


class TestReplicaSetRepeatsWrites:
    """A replica set records executed writes: the driver repeats most writes, and each is executed once."""

    @pytest.fixture
    def ground(self, mongo_set: ReplicaSet) -> Iterator[MongoGround]:
        ground = MongoGround(mongo_set)
        yield ground
        ground.close()

    @pytest.fixture
    def proxy(self, mongo_set: ReplicaSet) -> Iterator[Proxy]:
        member = mongo_set.members[0]
        proxy = Proxy(member.host, member.port, talk=MongoTalk)
        yield proxy
        proxy.close()

    @pytest.fixture
    def far(
        self, ground: MongoGround, near: Store, proxy: Proxy, mongo_set: ReplicaSet
    ) -> Iterator[MongoStore]:
        near.now()
        store = behind(proxy, ground, mongo_set.members[0])
        yield store
        proxy.pass_through()
        store.close()

    def test_an_add_a_save_and_other_writes_are_executed_once(
        self, near: Store, far: Store, proxy: Proxy
    ) -> None:
        proxy.lose_reply(asks("insert", "jobs"))
        jobs = [new_job("a"), new_job("b", unique_key="k")]
        assert [added.status for added in far.add(jobs)] == ["added", "added"]
        assert proxy.lost.is_set()
        taken = near.claim("w1", (), 2, LEASE)
        proxy.lose_reply(asks("update", "jobs"))
        assert statuses(far.save([ended(job) for job in taken])) == ["accepted", "accepted"]
        assert proxy.lost.is_set()
        assert {job.version for job in near.get(["a", "b"]).values()} == {taken[0].version + 1}
        proxy.lose_reply(asks("update", "shared"))
        assert near.swap([Swap("queues", "q", {"paused": True}, 0)])[0]
        assert far.swap([Swap("queues", "q", {"paused": False}, 1)])[0]
        assert proxy.lost.is_set()
        proxy.lose_reply(asks("findAndModify", "workers"))
        assert far.heartbeat(worker("w1")) is None
        assert proxy.lost.is_set()
        assert near.counts(Filter()).states() == {"completed": 2}

    def test_a_claim_still_has_an_unknown_outcome(self, near: Store, far: Store, proxy: Proxy) -> None:
        near.add([new_job("a"), new_job("b")])
        proxy.lose_reply(asks("update", "jobs"))
        with pytest.raises(OutcomeUnknown):
            far.claim("w1", (), 1, LEASE)
        assert [job.id for job in worker_status.claimed_by(far, "w1")] == ["a"]
        assert [job.id for job in far.claim("w1", (), 2, LEASE)] == ["b"]


class TestSilence:
    def test_a_read_from_a_silent_server_ends_within_the_timeout(
        self, far: Store, mongo_proxy: Proxy
    ) -> None:
        mongo_proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            far.counts(Filter())
        assert time.monotonic() - began < PATIENCE + 3

    def test_a_change_has_an_unknown_outcome_within_the_timeout(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        mongo_proxy.black_hole_reply(asks("insert", "jobs"))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            far.add([new_job("a")])
        assert time.monotonic() - began < PATIENCE + 3
        assert set(near.get(["a"])) == {"a"}

    def test_a_claim_is_given_up_before_its_queue_lock_ends(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        near.add([new_job("a")])
        near.swap([Swap("queues", "default", {"paused": False, "limit": 1}, 0)])
        mongo_proxy.black_hole_reply(asks("update", "jobs"))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            far.claim("w1", (), 1, LEASE)
        assert time.monotonic() - began < PATIENCE + 3

    def test_a_connection_attempt_ends_within_the_timeout(self, far: Store, mongo_proxy: Proxy) -> None:
        mongo_proxy.reset()
        mongo_proxy.black_hole()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            far.counts(Filter())
        assert time.monotonic() - began < 2 * PATIENCE + 5

    def test_a_store_that_was_never_connected_fails_within_the_timeout(
        self, ground: MongoGround, mongo_proxy: Proxy, mongo_server: MongoServer | GivenMongo
    ) -> None:
        mongo_proxy.black_hole()
        url = mongo_server.url(ground.name, host=mongo_proxy.host, port=mongo_proxy.port)
        store = MongoStore(url, patience=PATIENCE)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.add([new_job("a")])
        assert time.monotonic() - began < 2 * PATIENCE + 5
        store.close()

    def test_a_store_of_a_silent_server_can_be_closed(self, far: MongoStore, mongo_proxy: Proxy) -> None:
        news = far.subscribe(topics.WORK)
        while news.wait(0.05):
            pass
        mongo_proxy.black_hole()
        began = time.monotonic()
        far.close()
        assert time.monotonic() - began < 2 * PATIENCE + 5

    def test_the_store_reconnects_after_a_half_open_connection(self, far: Store, mongo_proxy: Proxy) -> None:
        mongo_proxy.half_open()
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            far.add([new_job("a")])
        eventually(lambda: far.add([new_job("a")])[0].status in ("added", "existing"))

    def test_the_clock_advances_while_the_server_is_silent(
        self, ground: MongoGround, mongo_proxy: Proxy, mongo_server: Any
    ) -> None:
        url = mongo_server.url(ground.name, host=mongo_proxy.host, port=mongo_proxy.port)
        store = MongoStore(url, patience=PATIENCE)
        before = store.now()
        mongo_proxy.black_hole()
        with pytest.raises(StoreUnavailable):
            store.counts(Filter())
        assert store.now() >= before
        mongo_proxy.pass_through()
        store.close()


class TestAbsence:
    def test_a_refused_connection_is_unavailable_until_the_server_returns(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        eventually(lambda: refused(far, mongo_proxy), what="the client notices")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                far.add([new_job("a")])
        assert near.counts(Filter()).total() == 0
        mongo_proxy.pass_through()
        assert far.add([new_job("a")])[0].status == "added"

    def test_a_slow_network_causes_no_error(self, far: Store, mongo_proxy: Proxy) -> None:
        mongo_proxy.delay(0.05)
        assert far.add([new_job("a")])[0].status == "added"
        assert [job.id for job in far.claim("w1", (), 1, LEASE)] == ["a"]

    def test_a_subscription_works_again_after_an_outage(
        self, near: Store, far: Store, mongo_proxy: Proxy
    ) -> None:
        news = far.subscribe(topics.WORK)
        far.claim("w1", (), 1, LEASE)
        while news.wait(0.1):
            pass
        mongo_proxy.refuse()
        with pytest.raises(StoreUnavailable):
            news.wait(5.0)
        mongo_proxy.pass_through()
        while news.wait(0.1):
            pass
        near.add([new_job("a")])
        assert news.wait(20.0) is True


def refused(far: Store, proxy: Proxy) -> bool:
    """Whether nothing can be sent any more: what was sent on a broken connection is not known."""
    proxy.refuse()
    try:
        far.instruct("nobody", "stop")
    except OutcomeUnknown:
        return False
    except StoreUnavailable:
        return True
    return False
