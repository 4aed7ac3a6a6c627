"""A MongoDB that is killed, and replica sets with elections: acknowledged jobs stay, and no job runs twice."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from pymongo import MongoClient

from contract.mongo_load import Load
from factories import LEASE, new_job, report, statuses
from facts import eventually
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.store.mongo import MongoStore, write
from queuectl.store.protocol import Swap
from servers.mongo import MongoServer, connect
from servers.replica_set import Member, ReplicaSet

pytestmark = pytest.mark.proof
KILLS = 20


@pytest.fixture
def own_server() -> Iterator[MongoServer]:
    """A server without data of other tests."""
    with closing(MongoServer()) as server:
        server.start()
        yield server


@contextmanager
def queue_in(server: Any) -> Iterator[str]:
    """The URL of a new queue."""
    name = f"test_{secrets.token_hex(6)}"
    url = server.url(name)
    with closing(MongoStore(url)) as store:
        store.migrate()
    yield url
    with MongoClient(url) as client:
        client.drop_database(name)


@contextmanager
def load_on(url: str, **clients: int) -> Iterator[Load]:
    """A load that is right in the end."""
    load = Load(lambda: MongoStore(url, patience=2.0), **clients)
    try:
        yield load
    finally:
        load.end()
    with closing(MongoStore(url)) as store:
        load.check(store)


def test_a_server_that_is_killed_repeatedly_loses_no_job(own_server: MongoServer) -> None:
    with queue_in(own_server) as url, load_on(url) as load:
        for _ in range(KILLS):
            load.go_on(until=3)
            own_server.kill()
            own_server.start()
    assert OutcomeUnknown in load.failures  # otherwise the server was killed only at harmless moments


def test_a_set_of_one_that_is_killed_and_steps_down_loses_no_job(mongo_set: ReplicaSet) -> None:
    with queue_in(mongo_set) as url, load_on(url) as load:
        for _ in range(2):
            load.go_on(until=5)
            mongo_set.step_down()
            load.go_on(until=5)
            mongo_set.restart(mongo_set.kill_primary())


def test_a_set_with_repeated_elections_loses_no_job(mongo_trio: ReplicaSet) -> None:
    with queue_in(mongo_trio) as url, load_on(url, workers=2) as load:
        for _ in range(2):
            load.go_on(until=5)
            mongo_trio.step_down()
        load.go_on(until=5)
        killed = mongo_trio.kill_primary()
        load.go_on(until=5)
        mongo_trio.restart(killed)
        load.go_on(until=5)
        primary = mongo_trio.primary
        mongo_trio.pause(primary)
        load.go_on(until=5)
        mongo_trio.resume(primary)


@contextmanager
def nobody_follows(servers: ReplicaSet) -> Iterator[Member]:
    """Stop the replication of the secondaries, which still run and vote; returns the primary."""
    primary = servers.primary
    with ExitStack() as stack:
        for member in servers.members:
            if member is not primary:
                stack.enter_context(_copies_nothing(member))
        yield primary


@contextmanager
def _copies_nothing(member: Member) -> Iterator[None]:
    with connect(member) as client:
        client.admin.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        try:
            yield
        finally:
            client.admin.command("configureFailPoint", "stopReplProducer", mode="off")


def test_a_repeated_write_without_a_majority_is_never_acknowledged(
    mongo_trio: ReplicaSet,
) -> None:
    """No write is answered as existing, duplicate or stale, because the write behind such an answer may still be
    rolled back."""
    with queue_in(mongo_trio) as url, closing(MongoStore(url)) as store, hasty(url) as far:
        now = store.now()
        store.add([new_job("before", now=now, run_at=now)])
        [held] = store.claim("w1", (), 1, LEASE)
        done = lifecycle.finish(held, report(now=now), now=now, random_number=0.5)
        jobs = numbered(new_job("a", now=now, content="x"), new_job("b", now=now, unique_key="k"))
        rival = numbered(new_job("c", now=now, unique_key="k"))
        with nobody_follows(mongo_trio):
            for verb in (
                lambda: far.session.write(lambda base: write._insert(base, jobs, now, {})),
                lambda: far.session.write(lambda base: write._insert(base, jobs, now, {})),
                lambda: far.session.write(lambda base: write._insert(base, rival, now, {})),
                lambda: far.save([done]),
                lambda: far.save([done]),
                lambda: far.swap([Swap("queues", "q", {"paused": True}, 0)])[0],
                lambda: far.swap([Swap("queues", "q", {"paused": False}, 0)])[0],
                lambda: far.swap([Swap("queues", "q", {"paused": False}, 7)])[0],
            ):
                with pytest.raises(OutcomeUnknown):
                    verb()
        assert [added.status for added in store.add(jobs)] == ["existing"] * 2
        assert statuses(store.save([done])) == ["stale"]
        assert store.describe(thorough=True).faults == ()


@contextmanager
def hasty(url: str) -> Iterator[MongoStore]:
    """A handle that waits for no answer for long, connected."""
    with closing(MongoStore(url, patience=0.8)) as store:
        store.counts(Filter())
        store.read_table("queues")
        yield store


def numbered(*jobs: Job) -> list[Job]:
    """Let the jobs have their numbers already, because drawing numbers needs another write."""
    return [replace(job, number=9000 + ord(job.id)) for job in jobs]


def test_a_write_that_is_rolled_back_was_never_acknowledged(mongo_trio: ReplicaSet) -> None:
    with queue_in(mongo_trio) as url, closing(MongoStore(url)) as store, hasty(url) as far:
        now = store.now()
        store.add([new_job("before", now=now, run_at=now)])
        with ExitStack() as stack:
            primary = stack.enter_context(nobody_follows(mongo_trio))
            for verb in (lambda: far.add([new_job("a", now=now)]), lambda: far.claim("w1", (), 1, LEASE)):
                with pytest.raises((OutcomeUnknown, StoreUnavailable)):
                    verb()
            primary.kill()
        assert mongo_trio.primary is not primary
        assert eventually(lambda: answered(lambda: store.get(["before", "a"])), within=30).keys() == {
            "before"
        }
        assert store.add([new_job("a", now=now)])[0].status == "added"
        assert [job.id for job in store.claim("w2", (), 1, LEASE)] == ["before"]
        mongo_trio.restart(primary)
        assert store.counts(Filter()).states() == {"pending": 1, "processing": 1}
        assert store.describe(thorough=True).faults == ()


def test_a_primary_without_secondaries_acknowledges_no_write(mongo_trio: ReplicaSet) -> None:
    with queue_in(mongo_trio) as url, closing(MongoStore(url, patience=1.5)) as store:
        now = store.now()
        primary = mongo_trio.primary
        others = [member for member in mongo_trio.members if member is not primary]
        for member in others:
            mongo_trio.pause(member)
        for _ in range(2):
            with pytest.raises((OutcomeUnknown, StoreUnavailable)):
                store.add([new_job("a", now=now)])
        mongo_trio.start()
        answer = eventually(lambda: answered(lambda: store.add([new_job("a", now=now)])), within=30)
        assert answer[0].status in ("added", "existing")
        assert store.counts(Filter()).total() == 1


def answered(verb: Any) -> Any:
    """The answer of the server, or None."""
    try:
        return verb()
    except (OutcomeUnknown, StoreUnavailable):
        return None
