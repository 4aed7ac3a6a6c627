"""The stores that every test of this folder runs over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.grounds import GROUNDS, Ground, PostgresGround, SqliteGround, SteppedClock, ground_of
from queuectl.store.protocol import Store
from servers.postgres import GivenServer, PostgresServer


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A database of each kind."""
    with ground_of(request.param, tmp_path, request.getfixturevalue) as ground:
        yield ground


@pytest.fixture(scope="session")
def spare_grounds(postgres_server: PostgresServer | GivenServer) -> Iterator[dict[str, list[PostgresGround]]]:
    """Schemas that a test is done with, for the next one."""
    spare: dict[str, list[PostgresGround]] = {"postgres": [], "pooled": []}
    yield spare
    for ground in [*spare["postgres"], *spare["pooled"]]:
        ground.enter()
        ground.close()


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
