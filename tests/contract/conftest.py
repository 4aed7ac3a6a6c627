"""The stores that every test of this folder runs over."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.grounds import (
    GROUNDS,
    Ground,
    ServerGround,
    SqliteGround,
    SteppedClock,
    ground_of,
)
from queuectl.store.protocol import Store
from servers.endpoint import Endpoint
from servers.redis_cluster import RedisCluster
from servers.replica_set import ReplicaSet


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A database of each kind."""
    with ground_of(request.param, tmp_path, request.getfixturevalue) as ground:
        yield ground


@contextmanager
def spare_grounds() -> Iterator[list[ServerGround]]:
    """Databases that a test is done with, for the next one; gone before their server is."""
    spare: list[ServerGround] = []
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
def spare_mongodb(mongo_server: Endpoint) -> Iterator[list[ServerGround]]:
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


@pytest.fixture
def store(ground: Ground) -> Store:
    """A handle on it."""
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
