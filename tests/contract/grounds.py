"""The databases of the tests: one class for each driver. A new driver only adds a class here."""

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
from pymongo import MongoClient
from pymongo.database import Database

from contract.prompt_archive import PromptArchive
from factories import NOW
from queuectl.clock import Clock
from queuectl.domain.query import Filter
from queuectl.store.driver.codec import micros
from queuectl.store.memory import MemoryStore
from queuectl.store.mongo import MongoStore
from queuectl.store.mongo.connect import PLAIN
from queuectl.store.postgres import PostgresStore
from queuectl.store.protocol import Store
from queuectl.store.redis import RedisStore
from queuectl.store.redis.store import PATIENCE
from queuectl.store.redis_archive.archive import Archive
from queuectl.store.sqlite import SqliteStore
from servers.endpoint import Endpoint
from servers.mongo import GivenMongo, MongoServer
from servers.postgres import GivenServer, PostgresServer
from servers.redis import GivenRedis, RedisServer
from servers.redis_cluster import RedisCluster
from servers.replica_set import ReplicaSet


class SteppedClock(Clock):
    """A clock that changes only when a test steps it."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def step(self, **duration: float) -> datetime:
        """Advance the clock by this time."""
        self._now += timedelta(**duration)
        return self._now

    def reset(self) -> None:
        """Back to the beginning, for another test."""
        self._now = NOW


class Ground(Protocol):
    """One database. `open` gives another handle on it each time, all on the same clock."""

    clock: SteppedClock

    def open(self, **options: Any) -> Store: ...

    def close(self) -> None: ...


class MemoryGround:
    def __init__(self, _folder: Path) -> None:
        self.clock = SteppedClock()
        self._store: MemoryStore | None = None

    def open(self, **options: Any) -> Store:
        self._store = self._store or MemoryStore(clock=self.clock, **options)
        return self._store

    def close(self) -> None:
        pass


class SqliteGround:
    def __init__(self, folder: Path) -> None:
        self.clock = SteppedClock()
        self.path = folder / "queue.db"
        self._opened: list[Store] = []

    def open(self, **options: Any) -> Store:
        store = SqliteStore(self.path, clock=self.clock, **options)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


class ServerClock(SteppedClock):
    """A stepped clock that writes its time into a table, which replaces the clock of the schema."""

    def __init__(self, ground: "PostgresGround") -> None:
        super().__init__()
        self._ground = ground

    def step(self, **duration: float) -> datetime:
        moment = super().step(**duration)
        self.tell()
        return moment

    def reset(self) -> None:
        super().reset()
        self.tell()

    def tell(self) -> None:
        """Write the time into the table of the schema."""
        self._ground.admin.execute(
            f"UPDATE {self._ground.schema}.stepped SET now = %s", (micros(self.now()),)
        )


class PostgresGround:
    """A new schema in the shared server; its clock is stepped. `door`: the pooler in front of the server."""

    def __init__(self, server: PostgresServer | GivenServer, door: Endpoint | None = None) -> None:
        self.schema = f"test_{secrets.token_hex(6)}"
        self.url, self.plain_url = (door or server).url(schema=self.schema), server.url()
        self.admin = psycopg.connect(server.url(), autocommit=True)
        self.clock = ServerClock(self)
        self._opened: list[Store] = []
        self._made = False

    def open(self, **options: Any) -> Store:
        store = PostgresStore(self.url, clock_good_for=0, **options)
        if not self._made:
            store.migrate()
            self._stop_clock()
            self._made = True
        self._opened.append(store)
        return store

    def _stop_clock(self) -> None:
        self.admin.execute(f"CREATE TABLE {self.schema}.stepped AS SELECT 0::bigint AS now")
        self.admin.execute(
            f"CREATE OR REPLACE FUNCTION {self.schema}.now() RETURNS bigint LANGUAGE sql VOLATILE "
            f"AS 'SELECT now FROM {self.schema}.stepped'"
        )
        self.clock.tell()

    def empty(self) -> None:
        """Reset the database to its new state."""
        if self._made:
            tables = ("live", "ended", "body", "output", "worker", "shared", "tally", "event")
            deletes = ";".join(f"DELETE FROM {self.schema}.{table}" for table in tables)
            restart = (
                f"ALTER TABLE {self.schema}.body ALTER number RESTART; UPDATE {self.schema}.bell SET rings = 0; "
                f"ALTER SEQUENCE {self.schema}.event_seq_seq RESTART; "
                f"UPDATE {self.schema}.event_trimmed SET xid = '0', seq = 0"
            )
            self.admin.execute(f"{deletes}; {restart}")

    def leave(self) -> None:
        """For another test that wants a fresh one: making a schema takes longer than most tests."""
        for store in self._opened:
            store.close()
        self._opened.clear()
        if self._made:
            self.empty()
            self.clock.reset()
        self.admin.close()

    def enter(self) -> None:
        """Prepare for the next test. The server may have been restarted in between."""
        self.admin = psycopg.connect(self.plain_url, autocommit=True)

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self.admin.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self.admin.close()


class MongoGround:
    """A database of its own in a server that all tests share."""

    def __init__(self, server: MongoServer | GivenMongo | ReplicaSet) -> None:
        self.name = f"test_{secrets.token_hex(6)}"
        self.url = server.url(self.name)
        self.clock = SteppedClock()
        self._client: MongoClient[dict[str, Any]] = MongoClient(self.url)
        self._opened: list[Store] = []

    @property
    def base(self) -> Database[dict[str, Any]]:
        """The database, for direct access without the store."""
        return self._client.get_database(self.name, codec_options=PLAIN)

    def open(self, **options: Any) -> Store:
        store = MongoStore(self.url, clock=self.clock, **options)
        self._opened.append(store)
        return store

    def empty(self) -> None:
        """Reset the database to its new state."""
        for name in ("jobs", "output", "workers", "shared", "events"):
            self.base[name].delete_many({})
        self.base["counters"].update_one({"_id": "number"}, {"$set": {"n": 0}})
        self.base["counters"].update_one({"_id": "events"}, {"$set": {"first": 1, "cleared": 0}}, upsert=True)
        fresh = {"$set": {"fold": 0, "counts": "{}"}, "$unset": {"planned": ""}}
        self.base["tally"].update_one({"_id": "ended"}, fresh, upsert=True)

    def leave(self) -> None:
        """For another test that wants a fresh one."""
        for store in self._opened:
            store.close()
        self._opened.clear()
        self.empty()
        self.clock.reset()

    def enter(self) -> None:
        """Prepare for the next test."""

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._client.drop_database(self.name)
        self._client.close()


class RedisGround:
    """A queue with a name of its own in a server that all tests share."""

    def __init__(self, server: RedisServer | GivenRedis | RedisCluster) -> None:
        self.name = f"test_{secrets.token_hex(6)}"
        self.url = server.url(name=self.name)
        self.server = server
        self.clock = SteppedClock()
        self._opened: list[Store] = []

    @property
    def tag(self) -> str:
        """The prefix of all keys."""
        return f"{{{self.name}}}"

    def open(self, **options: Any) -> Store:
        store = self._store(**options)
        self._opened.append(store)
        return store

    def _store(self, **options: Any) -> Store:
        return RedisStore(self.url, clock=self.clock, **options)

    def empty(self) -> None:
        """Reset the database to its new state."""
        self.server.delete(self.tag)

    def leave(self) -> None:
        """For another test that wants a fresh one."""
        for store in self._opened:
            store.close()
        self._opened.clear()
        self.empty()
        self.clock.reset()

    def enter(self) -> None:
        """Prepare for the next test."""

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self.empty()


class ArchivedGround(RedisGround):
    """A queue with an archive, which is a database in the shared MongoDB. Ended jobs are there."""

    def __init__(self, server: RedisServer | GivenRedis, archive: MongoServer | GivenMongo) -> None:
        super().__init__(server)
        self.past = MongoGround(archive)

    def _store(self, **options: Any) -> Store:
        return PromptArchive(self.url, lambda: Archive(self.past.url, PATIENCE), clock=self.clock, **options)

    def empty(self) -> None:
        super().empty()
        self.past.empty()
        self.past.base["counters"].delete_one({"_id": "archive"})

    def close(self) -> None:
        super().close()
        self.past.close()


GROUNDS = (
    "memory",
    "sqlite",
    "postgres",
    "pooled",
    "mongodb",
    "replicas",
    "redis",
    "valkey",
    "archived",
    "cluster",
)
"""`pooled` is PostgreSQL behind PgBouncer, which gives every statement another session; there waiting is polling.
`mongodb` is a standalone server, `replicas` a replica set of one: there change streams tell of what happens.
`archived` is Redis with its archive in the standalone MongoDB. `cluster` is one of three Redis, and we ask a wrong one.
"""

SERVERS = {
    "postgres": "postgres_server",
    "pooled": "postgres_server",
    "mongodb": "mongo_server",
    "replicas": "mongo_set",
    "redis": "redis_server",
    "valkey": "valkey_server",
    "archived": "redis_server",
    "cluster": "redis_cluster",
}
"""The fixture that starts what a kind needs."""

ServerGround = PostgresGround | MongoGround | RedisGround


@contextmanager
def ground_of(kind: str, folder: Path, fixture: Callable[[str], Any]) -> Iterator[Ground]:
    """A new database of a kind. `fixture` returns the servers, which start at their first use."""
    if kind in ("memory", "sqlite"):
        ground = MemoryGround(folder) if kind == "memory" else SqliteGround(folder)
        yield ground
        ground.close()
        return
    spare: list[ServerGround] = fixture(f"spare_{kind}")
    if spare:
        found = spare.pop()
        found.enter()
    else:
        found = _fresh(kind, fixture)
    yield found
    found.leave()
    spare.append(found)


def _fresh(kind: str, fixture: Callable[[str], Any]) -> ServerGround:
    server = fixture(SERVERS[kind])
    if kind in ("mongodb", "replicas"):
        return MongoGround(server)
    if kind in ("redis", "valkey", "cluster"):
        return RedisGround(server)
    if kind == "archived":
        return ArchivedGround(server, fixture("mongo_server"))
    return PostgresGround(server, fixture("bouncer") if kind == "pooled" else None)


def named(wanted: Any) -> str:
    """A filter in a few words, the same in every process (a frozenset has no order to print)."""
    if not isinstance(wanted, Filter):
        return str(wanted)
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    words = [f"{k}={sorted(v) if isinstance(v, frozenset) else v}" for k, v in fields.items() if v or v == ""]
    return ",".join(words) or "everything"


def rising_tokens() -> Callable[[], str]:
    """Attempt ids that two stores give out alike."""
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):032x}"


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Run all at the same moment, each in a thread; their answers in order. An error of any is raised."""
    start, answers = threading.Barrier(len(calls)), [None] * len(calls)
    errors: list[BaseException] = []

    def run(place: int, call: Callable[[], Any]) -> None:
        start.wait()
        try:
            answers[place] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers
