"""A home and a store for the tests of the Python API, and a worker where a test needs one."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.acting import Actor
from contract.grounds import SteppedClock
from e2e.databases import Database, MongoDatabase, PostgresDatabase, RedisDatabase, SqliteDatabase
from http_server import FixedTokens, serving
from queuectl import Queue
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.sqlite import SqliteStore


def settle(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the home and the working directory, without variables of queuectl."""
    for name in list(os.environ):
        if name.startswith("QUEUECTL_") or name in ("DATABASE_URL", "MONGODB_URI", "REDIS_URL"):
            patch.delenv(name)
    patch.setenv("HOME", str(folder))
    for name in ("DATA", "CONFIG", "STATE"):
        patch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
    patch.chdir(folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settle(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module", params=["sqlite", "postgres", "mongodb", "redis", "archived", "http"])
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of store, or `http` for a server before SQLite."""
    return str(request.param)


@pytest.fixture(scope="module")
def database(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database of that kind for the tests of one file, named by the environment, with a home beside it."""
    folder = tmp_path_factory.mktemp("home")
    made = _database(kind, folder / "data", request.getfixturevalue)
    with pytest.MonkeyPatch.context() as patch:
        settle(folder, patch)
        for name, value in made.env.items():
            patch.setenv(name, value)
        yield made
    made.close()


def _database(kind: str, data: Path, fixture: Callable[[str], Any]) -> Database:
    if kind in ("sqlite", "http"):
        return SqliteDatabase(data)
    if kind == "postgres":
        return PostgresDatabase(fixture("postgres_server"))
    if kind == "mongodb":
        return MongoDatabase(fixture("mongo_server"))
    archive = MongoDatabase(fixture("mongo_server")) if kind == "archived" else None
    return RedisDatabase(fixture("redis_server"), archive)


@contextmanager
def served(database: Database) -> Iterator[str]:
    """The URL of a server before a database. The scope of a caller is its token."""
    store = database.open()
    store.migrate()
    local = LocalQueue(store, Sources({}, None, warnings.warn))
    with closing(local), serving(ServerState(local, FixedTokens(), lambda host: True)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def queue(home: Path) -> Iterator[Queue]:
    with Queue() as queue:
        yield queue


def lose_worker(home: Path) -> None:
    """Put a worker `gone` of another host into the SQLite store of this home; its last heartbeat was a minute ago."""
    ago = SteppedClock(datetime.now(UTC) - timedelta(minutes=1))
    with closing(SqliteStore(home / "data" / "queuectl" / "queue.db", clock=ago)) as earlier:
        Actor(earlier).enters("gone")


def drain() -> None:
    """Run a worker in this home until nothing is left to do."""
    command = [sys.executable, "-m", "queuectl", "-q", "worker", "start", "--drain", "--count", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def worker(home: Path) -> Iterator[None]:
    """A worker that runs while the test does."""
    with started():
        yield


@contextmanager
def started(*options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that serves the store of the environment, and has ended afterwards."""
    command = [sys.executable, "-m", "queuectl", "-q", "worker", "start", "--count", "2", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
