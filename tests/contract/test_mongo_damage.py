"""A MongoDB that was edited by hand: what is missing is created again or reported. For jobs see
`test_unreadable.py`."""

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from pymongo import monitoring
from pymongo.errors import OperationFailure

from contract.grounds import MongoGround
from factories import LEASE, in_state, new_job
from queuectl.clock import boottime
from queuectl.domain.query import Counts, Filter, Page
from queuectl.errors import InvalidInput, OutcomeUnknown, StoreUnavailable, StoreUnusable
from queuectl.store.mongo import MongoStore, schema
from queuectl.store.protocol import Store, Swap
from servers.mongo import GivenMongo, MongoServer, fail_command
from servers.proxy import Proxy


@pytest.fixture
def ground(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoGround]:
    ground = MongoGround(mongo_server)
    yield ground
    ground.close()


@pytest.fixture
def store(ground: MongoGround) -> Store:
    return ground.open()


@pytest.mark.parametrize(
    ("collection", "change", "verb"),
    [
        ("tally", {"$set": {"counts": "["}}, lambda store: store.counts(Filter())),
        ("tally", {"$unset": {"counts": ""}}, lambda store: store.counts(Filter())),
    ],
)
def test_other_unreadable_documents_are_reported(
    ground: MongoGround, store: Store, collection: str, change: dict[str, Any], verb: Any
) -> None:
    store.add([new_job("a")])
    assert store.swap([Swap("queues", "default", {"paused": False, "limit": None}, 0)])[0]
    ground.base[collection].update_one({}, change)
    with pytest.raises(StoreUnusable, match="cannot read"):
        verb(store)


def test_lost_indexes_are_created_again(ground: MongoGround, store: Store) -> None:
    store.add([new_job("a"), in_state("dead", "d")])
    ground.base["jobs"].drop_indexes()
    fresh = ground.open()
    assert fresh.add([new_job("a", content="other")])[0].status == "conflict"
    assert {index.name for index in schema.JOBS} <= ground.base["jobs"].index_information().keys()
    assert fresh.counts(Filter()) == Counts({"default": {"pending": 1, "dead": 1}})


def test_indexes_that_cannot_be_created_again_are_reported(ground: MongoGround, store: Store) -> None:
    store.add([new_job("a"), new_job("b")])
    ground.base["jobs"].drop_indexes()
    ground.base["jobs"].update_many({}, {"$set": {"id": "a"}})
    with pytest.raises(StoreUnusable, match="lost its indexes"):
        ground.open().get(["a"])


def test_an_error_after_a_write_has_an_unknown_outcome(
    ground: MongoGround, store: Store, mongo_server: MongoServer | GivenMongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([new_job("a")])
    store.claim("w0", (), 1, LEASE)
    store.add([new_job("b")])
    refused = OperationFailure("not authorized", 13)
    found = []

    def succeeded(event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name == "update" and not found:
            found.append(stack.__enter__())

    stack = fail_command(mongo_server, "find", mode={"times": 1}, errorCode=13, appName="queuectl")
    outbox = store.session._outbox  # type: ignore[attr-defined]
    note = outbox.succeeded
    monkeypatch.setattr(outbox, "succeeded", lambda event: (note(event), succeeded(event))[0])
    try:
        with pytest.raises(OutcomeUnknown):
            store.claim("w1", (), 1, LEASE)
    finally:
        stack.__exit__(None, None, None)
    assert refused.code == 13
    assert ground.base["jobs"].find_one({"id": "b"})["worker"] == "w1"


def test_a_verb_with_many_requests_ends_within_its_timeout(
    mongo_server: MongoServer | GivenMongo, ground: MongoGround, mongo_proxy: Proxy
) -> None:
    near = ground.open()
    for n in range(30):
        near.add([new_job(f"j{n}", queue=f"q{n}")])
        assert near.swap([Swap("queues", f"q{n}", {"paused": False, "limit": 1}, 0)])[0]
    url = mongo_server.url(ground.name, host=mongo_proxy.host, port=mongo_proxy.port)
    with closing(MongoStore(url, patience=2.0, clock=ground.clock)) as far:
        far.get(["a"])
        mongo_proxy.delay(0.2)
        began = boottime()
        with suppress(OutcomeUnknown, StoreUnavailable):
            far.claim("w1", (), 30, LEASE)
        assert boottime() - began < 4
        mongo_proxy.pass_through()


@pytest.mark.parametrize("wanted", [Filter(number=10**30), Filter(id_prefix="\udc80")])
def test_an_invalid_filter_is_refused(store: Store, wanted: Filter) -> None:
    with pytest.raises(InvalidInput):
        store.find(wanted, Page())


def test_a_batch_of_any_size_can_be_repeated(store: Store) -> None:
    jobs = [new_job(f"{n:0>120}") for n in range(12_000)]
    assert {added.status for added in store.add(jobs)} == {"added"}
    assert {added.status for added in store.add(jobs)} == {"existing"}
