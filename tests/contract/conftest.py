"""The stores on which every test of this folder runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from contract.archived import Between
from contract.grounds import (
    GROUNDS,
    Ground,
    MongoGround,
    ServerGround,
    SqliteGround,
    SteppedClock,
    ground_of,
)
from queuectl.store.protocol import Store
from servers.endpoint import Endpoint
from servers.mongo import GivenMongo, MongoServer
from servers.redis import GivenRedis, RedisServer
from servers.redis_cluster import RedisCluster
from servers.replica_set import ReplicaSet

AnyGround = TypeVar("AnyGround", bound=ServerGround)


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A database of each kind."""
    with ground_of(request.param, tmp_path, request.getfixturevalue) as ground:
        yield ground


@contextmanager
def spare_grounds() -> Iterator[list[AnyGround]]:
    """Databases that one test has finished with and another one reuses; deleted before their server ends."""
    spare: list[AnyGround] = []
    yield spare
    for ground in spare:
        ground.enter()
        ground.close()


@pytest.fixture(scope="session")
def spare_postgres(postgres_server: Endpoint) -> Iterator[list[ServerGround]]:
    """Schemas of PostgreSQL."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_pooled(postgres_server: Endpoint) -> Iterator[list[ServerGround]]:
    """Schemas that are reached through a pool."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_mongodb(mongo_server: Endpoint) -> Iterator[list[MongoGround]]:
    """Databases of the standalone MongoDB."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_replicas(mongo_set: ReplicaSet) -> Iterator[list[ServerGround]]:
    """Databases of the replica set of one."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_redis(redis_server: Endpoint) -> Iterator[list[ServerGround]]:
    """Names in Redis."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_valkey(valkey_server: Endpoint) -> Iterator[list[ServerGround]]:
    """Names in Valkey."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_archived(redis_server: Endpoint, mongo_server: Endpoint) -> Iterator[list[ServerGround]]:
    """Names in Redis, each with its archive in the standalone MongoDB."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_cluster(redis_cluster: RedisCluster) -> Iterator[list[ServerGround]]:
    """Names in the cluster."""
    with spare_grounds() as spare:
        yield spare


@pytest.fixture(scope="session")
def spare_between(redis_server: Endpoint, mongo_server: Endpoint) -> Iterator[list[Between]]:
    """A queue in which only the test moves jobs to the archive."""
    with spare_grounds() as spare:
        yield spare


@contextmanager
def reused(spare: list[AnyGround], make: Callable[[], AnyGround]) -> Iterator[AnyGround]:
    """A database that another test is done with, or a new one: to make and drop one costs more than most tests."""
    ground = spare.pop() if spare else make()
    ground.enter()
    yield ground
    ground.leave()
    spare.append(ground)


@pytest.fixture
def mongo_ground(
    spare_mongodb: list[MongoGround], mongo_server: MongoServer | GivenMongo
) -> Iterator[MongoGround]:
    """A database of the standalone MongoDB, for tests that leave its indexes as they are."""
    with reused(spare_mongodb, lambda: MongoGround(mongo_server)) as ground:
        yield ground


@pytest.fixture
def between_ground(
    spare_between: list[Between],
    redis_server: RedisServer | GivenRedis,
    mongo_server: MongoServer | GivenMongo,
) -> Iterator[Between]:
    """A queue and its archive, for tests of what lies between the two."""
    with reused(spare_between, lambda: Between(redis_server, mongo_server)) as ground:
        yield ground


@pytest.fixture
def store(ground: Ground) -> Store:
    """A handle on the database."""
    return ground.open()


@pytest.fixture
def other(ground: Ground, store: Store) -> Store:
    """A second handle on the same database."""
    return ground.open()


@pytest.fixture
def clock(ground: Ground) -> SteppedClock:
    """The clock of every handle."""
    return ground.clock


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteGround]:
    """A SQLite database, for what only it has."""
    ground = SqliteGround(tmp_path)
    yield ground
    ground.close()
