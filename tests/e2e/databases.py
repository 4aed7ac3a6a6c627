"""The databases of the end-to-end tests: one class for each kind of store. A new kind only adds a class here."""

import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

import psycopg
import pytest
from psycopg import sql
from pymongo import MongoClient

from queuectl import bootstrap
from queuectl.domain.job import Job
from queuectl.store.mongo import MongoStore, documents
from queuectl.store.mongo.connect import PLAIN
from queuectl.store.postgres import PostgresStore
from queuectl.store.protocol import Store
from queuectl.store.redis import faults
from queuectl.store.redis.scripts import script
from queuectl.store.sqlite import SqliteStore
from servers.endpoint import Endpoint
from servers.mongo import Client, GivenMongo, MongoServer, connect
from servers.postgres import GivenServer, PostgresServer
from servers.proxy import Proxy
from servers.redis import GivenRedis, RedisServer
from servers.replica_set import ReplicaSet
from servers.talk import MongoTalk, PostgresTalk, RedisTalk


class Database(Protocol):
    """A database that only `queuectl` uses. `env`: the variables that name the database."""

    env: dict[str, str]

    def exists(self) -> bool:
        """Whether a command has made it already."""

    def open(self) -> Store:
        """A handle on it, for looking without the cost of a process."""

    def locked(self) -> AbstractContextManager[None]:
        """During the block, no other process can write."""

    def close(self) -> None:
        """Leave nothing of it. Twice is harmless."""


class Shared(Database, Protocol):
    """One that workers of several hosts can reach.

    `named`: what names it by a word, as people do whose other programs use it too. `passwords`: the secrets in its URL.
    """

    url: str
    named: dict[str, str]
    passwords: tuple[str, ...]
    lost: Mapping[str, bytes]
    """For each verb, a text that appears only in its request; the proxy loses the reply to this request."""

    def by_way(self, listen_on: str = "127.0.0.1") -> tuple[Proxy, str]:
        """A network to it, to be closed by the caller, and its URL by way of that."""


class SqliteDatabase:
    """The default store: a file in the data directory that the environment names."""

    def __init__(self, data: Path) -> None:
        self.env = {"XDG_DATA_HOME": str(data)}
        self.path = data / "queuectl" / "queue.db"

    def exists(self) -> bool:
        return self.path.exists()

    def open(self) -> Store:
        return SqliteStore(str(self.path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    def close(self) -> None:
        """The file is deleted with the place."""


class PostgresDatabase:
    """A schema in the server that all tests share, and a role that owns it and has no other right.

    `door`: what the product goes through to get there; a pooler knows the administrator only.
    """

    lost: ClassVar = {
        "add": b".add_",
        "claim": b".claim_",
        "save": b".save_",
        "output": b".write_output(",
        "heartbeat": b".worker AS known",
    }

    def __init__(self, server: PostgresServer | GivenServer, door: Endpoint | None = None) -> None:
        self.server = server
        self.schema = self.role = f"place_{secrets.token_hex(6)}"
        self.password = secrets.token_urlsafe() + "%/"
        self.passwords = (self.password,)
        login = {} if door else {"user": self.role, "password": self.password}
        self.url = (door or server).url(schema=self.schema, **login)
        self.env = {"QUEUECTL_STORE": self.url}
        self.named = {"QUEUECTL_STORE": "postgres", "DATABASE_URL": self.url}
        self._login = login
        self._own_url, self._plain_url = server.url(schema=self.schema, **login), server.url()
        self._connection = psycopg.connect(self._plain_url, autocommit=True)
        self._exists = False
        if not door:
            self.run(f"CREATE ROLE {self.role} LOGIN PASSWORD '{self.password}'")
            self.run(f"CREATE SCHEMA {self.schema} AUTHORIZATION {self.role}")

    def by_way(self, listen_on: str = "127.0.0.1") -> tuple[Proxy, str]:
        proxy = Proxy(self.server.host, self.server.port, talk=PostgresTalk, listen_on=listen_on)
        place = {"host": proxy.host, "port": proxy.port, "connect_timeout": 2}
        return proxy, self.server.url(schema=self.schema, **self._login, **place)

    def run(self, statement: str) -> "psycopg.Cursor[tuple[Any, ...]]":
        """Run a statement as the administrator. A lost connection is replaced."""
        with suppress(psycopg.OperationalError):
            return self._connection.execute(statement)
        self._connection.close()
        self._connection = psycopg.connect(self._plain_url, autocommit=True)
        return self._connection.execute(statement)

    def exists(self) -> bool:
        if not self._exists:
            self._exists = self.run(f"SELECT to_regclass('{self.schema}.worker')").fetchone() != (None,)
        return self._exists

    def open(self) -> Store:
        return PostgresStore(self._own_url)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self._plain_url) as connection, connection.transaction(force_rollback=True):
            # In a deadlock with another transaction, the other transaction must fail.
            connection.execute("SET LOCAL deadlock_timeout = '60s'")
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [self.schema])
            tables = sql.SQL(", ").join(sql.Identifier(self.schema, name) for (name,) in rows.fetchall())
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables))
            yield

    def close(self) -> None:
        self.run(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self.run(f"DROP ROLE IF EXISTS {self.role}")
        self._connection.close()


class MongoDatabase:
    """A database in the server that all tests share, and a user who may read and write it and has no other right."""

    lost: ClassVar = {
        "add": b"insert\0\5\0\0\0jobs",
        "claim": b"$indexOfArray",
        "save": b"$push",
        "output": b"insert\0\7\0\0\0output",
        "heartbeat": b"findAndModify\0\10\0\0\0workers",
    }

    def __init__(self, server: MongoServer | GivenMongo) -> None:
        self.server = server
        self.name = self.user = f"place_{secrets.token_hex(6)}"
        self.password = secrets.token_urlsafe() + "%/"
        self.passwords = (self.password,)
        self._login = {"user": self.user, "password": self.password, "authSource": self.name}
        self.url = server.url(self.name, **self._login)
        self.env = {"QUEUECTL_STORE": self.url}
        self.named = {"QUEUECTL_STORE": "mongodb", "MONGODB_URI": self.url}
        self._client = connect(server)
        self.base = self._client[self.name]
        self.admit()

    def by_way(self, listen_on: str = "127.0.0.1") -> tuple[Proxy, str]:
        proxy = Proxy(self.server.host, self.server.port, talk=MongoTalk, listen_on=listen_on)
        place = {"host": proxy.host, "port": proxy.port, "directConnection": "true"}
        return proxy, self.server.url(self.name, **self._login, **place)

    def exists(self) -> bool:
        return self.base["counters"].find_one("schema") is not None

    def open(self) -> Store:
        return MongoStore(self.url)

    @contextmanager
    def locked(self) -> Iterator[None]:
        if isinstance(self.server, GivenMongo):
            pytest.skip("a lock would stop everybody who uses the server of QUEUECTL_TEST_MONGODB")
        self._client.admin.command("fsync", lock=True)
        try:
            yield
        finally:
            self._client.admin.command("fsyncUnlock")

    def admit(self) -> None:
        """Create the user."""
        self.base.command("createUser", self.user, pwd=self.password, roles=["readWrite"])

    def dismiss(self) -> None:
        """Let the user in no more, nor do anything who is in."""
        self.base.command("dropAllUsersFromDatabase")

    def close(self) -> None:
        with connect(self.server) as client:
            client[self.name].command("dropAllUsersFromDatabase")
            client.drop_database(self.name)
        self._client.close()


class ReplicasDatabase:
    """A database in a replica set, for its administrator."""

    def __init__(self, servers: ReplicaSet) -> None:
        self.servers = servers
        self.name = f"place_{secrets.token_hex(6)}"
        self.url = servers.url(self.name)
        self.env = {"QUEUECTL_STORE": self.url}
        self._client: Client = MongoClient(self.url)

    def exists(self) -> bool:
        return self._client[self.name]["counters"].find_one("schema") is not None

    def open(self) -> Store:
        return MongoStore(self.url)

    def locked(self) -> AbstractContextManager[None]:
        return self.servers.without_primary()

    def close(self) -> None:
        self.servers.start()
        self._client.drop_database(self.name)
        self._client.close()


RIGHTS = tuple(faults.RIGHTS.split())
"""The rights that a user of a queue needs: exactly the list in `docs/redis.md`."""


class RedisDatabase:
    """A queue in the server that all tests share, and a user who has the rights that it takes and no other.

    With an `archive`, what has ended goes there.
    """

    SCRIPTS: ClassVar = {
        "add": "add",
        "claim": "claim",
        "save": "save",
        "output": "write_output",
        "heartbeat": "heartbeat",
    }
    lost: ClassVar = {verb: script(name).digest.encode() for verb, name in SCRIPTS.items()}

    def __init__(self, server: RedisServer | GivenRedis, archive: MongoDatabase | None = None) -> None:
        self.server, self.archive = server, archive
        self.name = self.user = f"place_{secrets.token_hex(6)}"
        self.tag = f"{{{self.name}}}"
        self.password = secrets.token_urlsafe() + "%/"
        self.passwords = (self.password, *(archive.passwords if archive else ()))
        self._login = {"user": self.user, "password": self.password, "name": self.name}
        past = {"archive": archive.url} if archive else {}
        self.url = server.url(**self._login, **past)
        self.env = {"QUEUECTL_STORE": self.url}
        self.named = {"QUEUECTL_STORE": "redis", "REDIS_URL": server.url(**self._login)}
        self.named |= {"MONGODB_URI": archive.url} if archive else {}
        self.admit()

    def by_way(self, listen_on: str = "127.0.0.1") -> tuple[Proxy, str]:
        for name in self.SCRIPTS.values():  # otherwise the first call of a script fails and sends its text
            self.server.call("SCRIPT", "LOAD", script(name).text)
        proxy = Proxy(self.server.host, self.server.port, talk=RedisTalk, listen_on=listen_on)
        past = {"archive": self.archive.url} if self.archive else {}
        return proxy, self.server.url(host=proxy.host, port=proxy.port, **self._login, **past)

    def past(self, id: str) -> Job | None:
        """A job as MongoDB has it, if it has."""
        assert self.archive is not None
        jobs = self.archive.base["jobs"].with_options(codec_options=PLAIN)
        document = jobs.find_one({"id": id})
        return None if document is None else documents.job(document)

    def holds(self, number: int) -> bool:
        """Whether Redis has anything of a job."""
        return bool(self.server.call("KEYS", f"{self.tag}:*:{number:016}"))

    def waiting(self) -> int:
        """The number of ended jobs that are not in the archive yet."""
        return int(self.server.call("XLEN", f"{self.tag}:stream"))

    def exists(self) -> bool:
        return bool(self.server.call("EXISTS", f"{self.tag}:schema"))

    def open(self) -> Store:
        return bootstrap.open_store(self.url)

    @contextmanager
    def locked(self) -> Iterator[None]:
        if isinstance(self.server, GivenRedis):
            pytest.skip("a pause would stop everybody who uses the server of QUEUECTL_TEST_REDIS")
        self.server.call("CLIENT", "PAUSE", LONGEST_MS, "WRITE")
        try:
            yield
        finally:
            self.server.call("CLIENT", "UNPAUSE")

    def admit(self) -> None:
        """Create the user again: a restart of the server deletes its users."""
        own = ("resetkeys", "resetchannels", f"~{self.tag}*", f"&{self.tag}*")
        rule = (self.user, "on", f">{self.password}", *own, *RIGHTS)
        self.server.call("ACL", "SETUSER", *rule)
        if isinstance(self.server, RedisServer):
            self.server.settings["user"] = " ".join(rule)

    def dismiss(self) -> None:
        """Let the user in no more, nor do anything who is in."""
        self.server.call("ACL", "DELUSER", self.user)
        if isinstance(self.server, RedisServer):
            self.server.settings.pop("user", None)

    def close(self) -> None:
        self.dismiss()
        self.server.delete(self.tag)
        if self.archive:
            self.archive.close()


LONGEST_MS = 60_000
"""Seconds after which a paused server continues, also if the pausing process is dead."""
