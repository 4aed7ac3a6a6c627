"""While the archive cannot be reached the queue works and reports waiting jobs; afterwards no job is missing or
duplicate."""

from contextlib import closing

import pytest

from contract.archived import Between, counted, ids, move_all
from contract.test_workers import worker
from factories import LEASE, in_state, new_job, report
from facts import eventually
from queuectl.domain import lifecycle
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreError, StoreUnavailable
from queuectl.store.redis_archive import ArchivedStore, transfer
from servers.mongo import GivenMongo, MongoServer
from servers.proxy import Proxy

SHORT = 0.5


@pytest.fixture
def between(
    between_ground: Between,
    mongo_server: MongoServer | GivenMongo,
    mongo_proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> Between:
    """A queue whose archive is reached over a network that can be cut."""
    monkeypatch.setattr(transfer, "ABANDONED_MS", 0)
    way = {"host": mongo_proxy.host, "port": mongo_proxy.port, "directConnection": "true"}
    between_ground.archive_url = mongo_server.url(between_ground.past.name, **way)
    return between_ground


@pytest.fixture
def store(between: Between) -> ArchivedStore:
    """A queue with one archived job."""
    store = between.fresh()
    store.add([in_state("completed", "past")])
    move_all(store)
    return store


def work(store: ArchivedStore) -> None:
    """One job from its first day to its last."""
    store.add([new_job("new")])
    (running,) = store.claim("w1", (), 1, LEASE)
    store.save([lifecycle.finish(running, report(now=store.now()), now=store.now(), random_number=0.5)])


@pytest.mark.parametrize("cut", ["refuse", "black_hole"])
def test_jobs_are_added_run_and_ended_without_the_archive(
    between: Between, store: ArchivedStore, mongo_proxy: Proxy, cut: str
) -> None:
    getattr(mongo_proxy, cut)()
    work(store)
    assert counted(store) == {"completed": 2}
    assert store.get(["new"])["new"].state == "completed"
    assert ids(store, Filter(states=frozenset({"pending"}))) == []
    assert between.unmoved() == 1


def test_calls_that_need_archived_jobs_raise_store_unavailable(
    store: ArchivedStore, mongo_proxy: Proxy
) -> None:
    mongo_proxy.refuse()
    for ask in (
        lambda: store.get(["past"]),
        lambda: ids(store),
        lambda: store.add([in_state("completed", "past")]),
        lambda: store.counts(Filter(tag="red")),
        lambda: store.purge(Filter(), 1),
        lambda: store.read_output("a" * 32, 0),
    ):
        with pytest.raises(StoreUnavailable, match=r"mongodb://"):
            ask()


def test_a_batch_that_was_stored_in_part_has_an_unknown_outcome(
    between: Between, store: ArchivedStore, mongo_proxy: Proxy
) -> None:
    mongo_proxy.refuse()
    with pytest.raises(OutcomeUnknown, match="a part was stored"):
        store.add([in_state("completed", "past"), new_job("other")])
    mongo_proxy.pass_through()
    said = between.fresh().add([in_state("completed", "past"), new_job("other")])
    assert [added.status for added in said] == ["existing", "existing"]


def test_jobs_that_wait_for_the_archive_are_reported(store: ArchivedStore, mongo_proxy: Proxy) -> None:
    mongo_proxy.refuse()
    work(store)
    said = store.describe(thorough=True)
    assert said.details["to_archive"] == "1"
    assert any(fault.startswith("1 job waits for the archive: mongodb://") for fault in said.faults)


def test_after_the_outage_every_job_exists_once(
    between: Between, store: ArchivedStore, mongo_proxy: Proxy
) -> None:
    mongo_proxy.black_hole()
    work(store)
    with pytest.raises((StoreError, OutcomeUnknown)):
        between.fresh(patience=SHORT).archiver.archive_batch()
    assert between.unmoved() == 1
    mongo_proxy.pass_through()
    _others_go_on(between)
    assert (between.copies(), between.here(), between.unmoved()) == (["new", "past"], [], 0)
    assert ids(store) == ["new", "past"]
    assert between.faults() == {}


def _others_go_on(between: Between) -> None:
    """A process that does not know of the outage and does not wait for abandoned work."""
    move_all(between.fresh())


@pytest.mark.parametrize("how", ["lose_reply", "black_hole_reply"])
@pytest.mark.parametrize("word", [b"update\0\5\0\0\0jobs", b"insert\0\7\0\0\0output"])
def test_a_lost_reply_of_the_archive_loses_no_job(
    between: Between, store: ArchivedStore, mongo_proxy: Proxy, how: str, word: bytes
) -> None:
    store.add([new_job("new")])
    (running,) = store.claim("w1", (), 1, LEASE)
    assert running.lease is not None
    attempt_id = running.lease.attempt_id
    store.write_output([Chunk("new", attempt_id, 1, 0, store.now(), 0, b"printed")])
    store.save([lifecycle.finish(running, report(now=store.now()), now=store.now(), random_number=0.5)])
    getattr(mongo_proxy, how)(word)
    try:
        between.fresh(patience=SHORT).archiver.archive_batch()
    except (StoreError, OutcomeUnknown):
        mongo_proxy.pass_through()
    assert mongo_proxy.lost.is_set()
    _others_go_on(between)
    assert (between.copies(), between.here(), between.unmoved()) == (["new", "past"], [], 0)
    assert [chunk.data for chunk in store.read_output(attempt_id, 0)] == [b"printed"]
    assert between.faults() == {}


def test_the_outage_is_reported_until_it_is_over(store: ArchivedStore, mongo_proxy: Proxy) -> None:
    assert store.background_fault() is None
    mongo_proxy.refuse()
    work(store)
    store.heartbeat(worker("w1"))
    assert "Connection refused" in (eventually(store.background_fault) or "")
    mongo_proxy.pass_through()
    eventually(lambda: store.background_fault() is None, within=30)
    eventually(lambda: store.get(["new", "past"]).keys() == {"new", "past"})


def test_a_call_does_not_wait_for_an_archive_with_a_known_fault(between: Between, mongo_proxy: Proxy) -> None:
    store = between.fresh(patience=SHORT)
    mongo_proxy.black_hole()
    store.heartbeat(worker("w1"))
    eventually(store.background_fault, within=30)
    with closing(between._store(patience=60)) as patient:
        patient._archive.is_watched, patient._archive.fault = True, "it is away"
        with pytest.raises(StoreUnavailable, match="it is away"):
            patient.purge(Filter(), 1)
