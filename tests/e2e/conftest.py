"""Every end-to-end test gets its own place on each kind of store, and leaves no process behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.databases import (
    Database,
    MongoDatabase,
    PostgresDatabase,
    RedisDatabase,
    ReplicasDatabase,
    SqliteDatabase,
)
from e2e.harness import Place
from launcher import Launcher


@pytest.fixture(params=["sqlite", "postgres", "mongodb", "redis", "archived"])
def kind(request: pytest.FixtureRequest) -> str:
    """The database of the jobs. A test of one kind of store is parametrized with this kind."""
    return str(request.param)


@pytest.fixture
def database(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Database:
    """A database of that kind.

    `pooled` is PostgreSQL behind PgBouncer, which gives every statement another session; `trio` three MongoDB servers;
    `archived` is Redis with an archive in MongoDB, `valkey` its fork.
    """
    if kind == "sqlite":
        return SqliteDatabase(tmp_path / "data")
    if kind == "mongodb":
        return MongoDatabase(request.getfixturevalue("mongo_server"))
    if kind in ("redis", "valkey", "archived"):
        archive = MongoDatabase(request.getfixturevalue("mongo_server")) if kind == "archived" else None
        server = "valkey_server" if kind == "valkey" else "redis_server"
        return RedisDatabase(request.getfixturevalue(server), archive)
    if kind == "trio":
        return ReplicasDatabase(request.getfixturevalue("mongo_trio"))
    door = request.getfixturevalue("bouncer") if kind == "pooled" else None
    return PostgresDatabase(request.getfixturevalue("postgres_server"), door)


@pytest.fixture
def place(tmp_path: Path, database: Database, launcher: Launcher | None) -> Iterator[Place]:
    """A home, a store and a working directory; all processes of the place are ended."""
    place = Place(tmp_path, database, launcher)
    yield place
    place.close()
