"""The real servers, for every test that asks: started when the first one does, gone when the last one has."""

import os
from collections.abc import Iterator

import pytest

from servers.postgres import GivenServer, PostgresServer, postgres_of


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | GivenServer]:
    """A PostgreSQL with an administrator's rights: one for all tests of this process."""
    server = postgres_of(os.environ)
    yield server
    server.close()


@pytest.fixture
def own_postgres(postgres_server: PostgresServer | GivenServer) -> PostgresServer:
    """The same, where it may be stopped and killed."""
    if not isinstance(postgres_server, PostgresServer):
        pytest.skip("the server of QUEUECTL_TEST_POSTGRES is not ours to stop")
    return postgres_server
