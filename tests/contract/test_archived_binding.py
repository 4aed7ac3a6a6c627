"""An archive belongs to one queue, and a queue to one archive: a wrong address is refused before it does harm."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from contract.archived import Between, counted, ids, move_all
from contract.grounds import MongoGround
from contract.test_archived_moving import before
from contract.test_workers import worker
from factories import in_state, new_job
from facts import eventually
from queuectl.domain.query import Filter, Page
from queuectl.errors import StoreUnusable
from queuectl.store.mongo import MongoStore
from queuectl.store.redis import RedisStore
from queuectl.store.redis_archive import binding
from servers.mongo import GivenMongo, MongoServer
from servers.redis import GivenRedis, RedisServer

Servers = tuple[RedisServer | GivenRedis, MongoServer | GivenMongo]


@pytest.fixture
def servers(redis_server: RedisServer | GivenRedis, mongo_server: MongoServer | GivenMongo) -> Servers:
    return redis_server, mongo_server


@pytest.fixture
def used(servers: Servers) -> Iterator[Between]:
    """A queue that has handed one job over."""
    with closing(Between(*servers)) as ground:
        store = ground.fresh()
        store.add([in_state("completed", "past")])
        move_all(store)
        yield ground


@pytest.fixture
def elsewhere(servers: Servers) -> Iterator[MongoGround]:
    """An empty database."""
    with closing(MongoGround(servers[1])) as ground:
        yield ground


def test_an_empty_database_is_not_accepted_as_the_archive(used: Between, elsewhere: MongoGround) -> None:
    right, used.archive_url = used.archive_url, elsewhere.url
    with pytest.raises(StoreUnusable, match=f"is not this queue's archive, which is .*{used.past.name}"):
        used.fresh().find(Filter(), Page())
    used.archive_url = right
    assert ids(used.fresh()) == ["past"]


def test_no_job_is_moved_into_a_wrong_archive(used: Between, elsewhere: MongoGround) -> None:
    used.archive_url = elsewhere.url
    store = used.fresh()
    store.add([in_state("completed", "late")])
    with pytest.raises(StoreUnusable, match="not this queue's archive"):
        store.archiver.archive_batch()
    assert elsewhere.base["jobs"].find_one() is None
    assert counted(store) == {"completed": 2}


def test_the_archive_of_another_queue_is_refused_with_a_hint(used: Between, servers: Servers) -> None:
    with closing(Between(*servers)) as other:
        other.archive_url = used.archive_url
        store = other.fresh()
        store.add([in_state("completed", "strange")])
        with pytest.raises(StoreUnusable, match="is the archive of another queue") as refusal:
            store.archiver.archive_batch()
        assert f"redis-cli HSET '{other.tag}:archive' queue" in str(refusal.value.hint)
        assert used.copies() == ["past"]


def test_the_hint_assigns_the_archive_of_a_lost_queue_to_a_new_one(used: Between) -> None:
    used.server.delete(used.tag)
    store = used.fresh()
    store.add([new_job("new")])
    with pytest.raises(StoreUnusable, match="is the archive of another queue") as refusal:
        ids(store)
    words = str(refusal.value.hint).partition("redis-cli ")[2].replace("'", "").split()
    used.server.call(*words)
    store.archiver._reconcile()
    assert ids(store) == ["new", "past"]
    assert counted(store) == {"pending": 1, "completed": 1}
    assert used.faults() == {}


def test_a_queue_in_mongodb_is_refused_as_an_archive(servers: Servers, elsewhere: MongoGround) -> None:
    elsewhere.open().add([new_job("theirs")])
    with closing(Between(*servers)) as ground:
        ground.archive_url = elsewhere.url
        store = ground.fresh()
        store.add([in_state("completed", "a")])
        with pytest.raises(StoreUnusable, match="holds a queue of its own"):
            store.archiver.archive_batch()


def test_an_archive_is_refused_as_a_queue(used: Between) -> None:
    with closing(MongoStore(used.past.url)) as store, pytest.raises(StoreUnusable, match="is the archive of"):
        store.add([new_job("a")])


def test_a_queue_with_an_archive_is_not_opened_without_it(used: Between) -> None:
    with (
        closing(RedisStore(used.url)) as store,
        pytest.raises(StoreUnusable, match="has an archive") as refusal,
    ):
        store.find(Filter(), Page())
    assert "?archive=mongodb://" in str(refusal.value.hint)
    assert used.past.name in str(refusal.value.hint)


def test_an_archive_can_be_added_to_an_existing_queue(servers: Servers) -> None:
    with closing(Between(*servers)) as ground:
        with closing(RedisStore(ground.url, clock=ground.clock)) as plain:
            plain.add([in_state("completed", "early"), new_job("waits")])
        store = ground.fresh()
        store.heartbeat(worker("w1"))
        eventually(lambda: ground.copies() == ["early"])
        eventually(lambda: ground.here() == ["waits"])
        assert ids(store) == ["early", "waits"]
        assert ground.faults() == {}


def test_of_two_concurrent_bindings_to_different_archives_one_is_refused(
    servers: Servers, elsewhere: MongoGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Between(*servers)) as ground:
        one, right = ground.fresh(), ground.archive_url
        ground.archive_url = elsewhere.url
        other = ground.fresh()
        before(one._queue, "bind", lambda: ids(other), monkeypatch)
        with pytest.raises(StoreUnusable, match="is not this queue's archive"):
            ids(one)
        ground.archive_url = right
        with pytest.raises(StoreUnusable, match="is not this queue's archive"):
            ids(ground.fresh())


def test_a_binding_accepts_the_same_archive_bound_by_another_process(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Between(*servers)) as ground:
        one, other = ground.fresh(), ground.fresh()
        one.add([in_state("completed", "a")])
        before(binding, "_mark", lambda: move_all(other), monkeypatch)
        assert ids(one) == ["a"]
