"""The database of a MongoDB store: created on first use by any number of processes, distinguished from others,
described."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from contract.grounds import MongoGround, race
from contract.test_workers import worker
from factories import NOW, in_state, new_job
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.mongo import MongoStore, ended_counts, schema
from servers.mongo import GivenMongo, MongoServer
from servers.replica_set import ReplicaSet

Opener = Callable[..., MongoStore]


@pytest.fixture
def ground(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoGround]:
    ground = MongoGround(mongo_server)
    yield ground
    ground.close()


@pytest.fixture
def open_store() -> Iterator[Opener]:
    """Stores that are closed in the end."""
    opened: list[MongoStore] = []

    def open_store(url: str, **options: Any) -> MongoStore:
        opened.append(MongoStore(url, **options))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def indexes(ground: MongoGround, collection: str = "jobs") -> set[str]:
    return set(ground.base[collection].index_information())


class TestCreation:
    def test_concurrent_first_uses_create_one_schema(self, ground: MongoGround, open_store: Opener) -> None:
        stores = [open_store(ground.url) for _ in range(8)]
        jobs = [new_job("a", content="x")]
        answers = race(*[lambda s=store: s.add(jobs)[0].status for store in stores])
        assert sorted(answers) == ["added"] + ["existing"] * 7
        assert indexes(ground) == {"_id_", *(index.name for index in schema.JOBS)}
        assert set(ground.base.list_collection_names()) == set(schema.COLLECTIONS)
        assert ground.base["bells"].count_documents({}) == 2
        assert stores[0].describe(thorough=True).schema == schema.NEWEST

    def test_an_incomplete_schema_is_completed(self, ground: MongoGround, open_store: Opener) -> None:
        open_store(ground.url).migrate()
        ground.base["counters"].delete_one({"_id": "schema"})
        ground.base["jobs"].drop_index("ended")
        ground.base["rings"].drop()
        assert open_store(ground.url).add([new_job("a")])[0].job.number == 1
        assert indexes(ground) == {"_id_", *(index.name for index in schema.JOBS)}
        assert ground.base["rings"].options()["capped"]

    def test_a_newer_schema_is_refused_with_both_versions(
        self, ground: MongoGround, open_store: Opener
    ) -> None:
        open_store(ground.url).migrate()
        ground.base["counters"].update_one({"_id": "schema"}, {"$set": {"n": 99}})
        said = f"has schema 99, and this program knows schemas up to {schema.NEWEST}"
        with pytest.raises(StoreUnusable, match=said) as caught:
            open_store(ground.url).counts(Filter())
        assert "upgrade" in (caught.value.hint or "")

    def test_a_running_worker_continues_with_a_newer_schema(
        self, ground: MongoGround, open_store: Opener
    ) -> None:
        store = open_store(ground.url)
        store.migrate()
        ground.base["counters"].update_one({"_id": "schema"}, {"$set": {"n": 99}})
        assert store.add([new_job("a")])[0].status == "added"

    def test_collections_of_another_program_are_not_changed(
        self, ground: MongoGround, open_store: Opener
    ) -> None:
        collection = "jobs"
        ground.base[collection].insert_one({"theirs": True})
        with pytest.raises(StoreUnusable, match="contains collections of another program"):
            open_store(ground.url).add([new_job("a")])
        assert ground.base.list_collection_names() == [collection]
        assert list(ground.base[collection].find({}, {"_id": 0})) == [{"theirs": True}]
        assert indexes(ground, collection) == {"_id_"}

    def test_a_worker_does_not_create_a_missing_queue(self, ground: MongoGround, open_store: Opener) -> None:
        with pytest.raises(StoreUnavailable, match="there is no queue"):
            open_store(ground.url, create=False).counts(Filter())
        assert ground.base.list_collection_names() == []

    def test_two_queues_in_one_server_are_independent(
        self, ground: MongoGround, open_store: Opener, mongo_server: MongoServer | GivenMongo
    ) -> None:
        neighbour = MongoGround(mongo_server)
        other, store = neighbour.open(), open_store(ground.url)
        store.add([new_job("a")])
        assert other.add([new_job("a", content="other")])[0].status == "added"
        assert store.counts(Filter()).total() == other.counts(Filter()).total() == 1
        neighbour.close()


class TestDescription:
    def test_a_standalone_server_is_described_as_power_safe(self, ground: MongoGround) -> None:
        found = ground.open().describe()
        assert (found.durability, found.details["topology"], found.faults) == ("power-safe", "standalone", ())

    def test_a_set_of_one_is_described_as_power_safe(self, mongo_set: ReplicaSet) -> None:
        ground = MongoGround(mongo_set)
        found = ground.open().describe()
        assert (found.durability, found.details["wake_up"]) == ("power-safe", "change stream")
        assert "primary" in found.details["members"]
        ground.close()

    def test_a_set_of_three_is_described_as_failover_safe(self, mongo_trio: ReplicaSet) -> None:
        ground = MongoGround(mongo_trio)
        assert ground.open().describe().durability == "failover-safe"
        assert ground.open(durability="fast").describe().durability == "memory-safe"
        ground.close()

    def test_the_durability_fast_is_described_with_a_warning(self, ground: MongoGround) -> None:
        found = ground.open(durability="fast").describe()
        assert found.durability == "memory-safe"
        assert any("may be lost" in fault for fault in found.faults)

    def test_a_user_that_cannot_read_the_server_state_gets_a_description(
        self, ground: MongoGround, open_store: Opener, mongo_set: ReplicaSet
    ) -> None:
        replicated = MongoGround(mongo_set)
        for ground_, server in ((ground, None), (replicated, mongo_set)):
            admin, name = ground_.base.client["admin"], f"u{secrets.token_hex(4)}"
            admin.command("createUser", name, pwd="pw", roles=[{"role": "readWrite", "db": ground_.name}])
            url = ground_.url.replace("root:open%2Fsesame@", f"{name}:pw@")
            assert url != ground_.url
            store = open_store(url)
            store.add([new_job("a")])
            found = store.describe(thorough=True)
            assert found.faults == ()
            assert found.details["storage_engine"].startswith("unseen")
            assert server is None or found.details["members"].startswith("unseen")
            admin.command("dropUser", name)
        replicated.close()

    def test_no_password_is_shown(self, ground: MongoGround) -> None:
        found = ground.open().describe()
        assert "sesame" not in repr(found)


DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no place in line": (
        lambda base: base["jobs"].update_one({"id": "pending"}, {"$unset": {"ready": ""}}),
        "1 jobs whose place in line does not fit their state",
    ),
    "two places in line": (
        lambda base: base["jobs"].update_one({"id": "pending"}, {"$set": {"delayed": 1}}),
        "1 jobs whose place in line does not fit their state",
    ),
    "the line of another queue": (
        lambda base: base["jobs"].update_one({"id": "pending"}, {"$set": {"ready": "x"}}),
        "1 jobs whose place in line does not fit their state",
    ),
    "another standing": (
        lambda base: base["jobs"].update_one({"id": "held"}, {"$set": {"standing": "held x"}}),
        "1 jobs whose place in line does not fit their state",
    ),
    "a lease that nobody has": (
        lambda base: base["jobs"].update_one({"id": "held"}, {"$set": {"lease_until": 1}}),
        "1 jobs whose place in line does not fit their state",
    ),
    "a key that is still held": (
        lambda base: base["jobs"].update_one({"id": "dead"}, {"$set": {"key": "k"}}),
        "1 jobs whose place in line does not fit their state",
    ),
    "a count": (
        lambda base: base["tally"].update_one({}, {"$set": {"counts": '{"completed default":7}'}}),
        "1 counts that are wrong",
    ),
    "a job that vanished": (
        lambda base: base["jobs"].delete_one({"id": "counted"}),
        "1 counts that are wrong",
    ),
    "output of nobody": (
        lambda base: base["output"].insert_many([{"job": 77}, {"job": 78}]),
        "2 chunks of output without a job",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_thorough_check_finds_wrong_data(ground: MongoGround, kind: str) -> None:
    store = ground.open()
    store.add([in_state(state, state) for state in ("pending", "held", "processing")])
    store.add([in_state("completed", "counted")])
    ended_counts.merge(ground.base, at_least=1)
    store.add([in_state("dead", "dead"), new_job("later", run_at=NOW.replace(year=2030))])
    store.heartbeat(worker("w1"))
    assert store.describe(thorough=True).faults == ()
    plant, said = DAMAGE[kind]
    plant(ground.base)
    assert said in store.describe(thorough=True).faults


def test_the_remains_of_a_deleted_job_are_not_returned_by_any_verb(ground: MongoGround) -> None:
    """The remains wait for the next merge of counts, under an id that no job can have."""
    store = ground.open()
    [added] = store.add([in_state("dead", "a")])
    assert store.purge(Filter(), 1) == ["a"]
    assert ground.base["jobs"].count_documents({"gone": True}) == 1
    assert store.get([f" {added.job.number}", "a"]) == {}
    assert store.add([new_job("a", content="other")])[0].status == "added"
