"""Where the jobs of a place are kept: one class for each kind of store. A new one adds a class here and no more."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from queuectl.store.postgres import PostgresStore
from queuectl.store.protocol import Store
from queuectl.store.sqlite import SqliteStore
from servers.endpoint import Endpoint


class Database(Protocol):
    """A database that `queuectl` has to itself. `env`: what tells it which one is meant."""

    env: dict[str, str]

    def exists(self) -> bool:
        """Whether a command has made it already."""

    def open(self) -> Store:
        """A handle on it, for looking without the cost of a process."""

    def locked(self) -> AbstractContextManager[None]:
        """While this lasts, nobody else can write."""

    def close(self) -> None:
        """Leave nothing of it."""


class SqliteDatabase:
    """The default store: a file where the environment says that data are."""

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
        """It goes with the place."""


class PostgresDatabase:
    """A schema in the server that all tests share, and a role that owns it and has no other right.

    `door`: what the product goes through to get there; a pooler knows the administrator only.
    """

    def __init__(self, server: Endpoint, door: Endpoint | None = None) -> None:
        self.schema = self.role = f"place_{secrets.token_hex(6)}"
        self.password = secrets.token_urlsafe() + "%/"
        login = {} if door else {"user": self.role, "password": self.password}
        self.url = (door or server).url(schema=self.schema, **login)
        self.env = {"QUEUECTL_STORE": self.url}
        self._own_url, self._plain_url = server.url(schema=self.schema, **login), server.url()
        self._connection = psycopg.connect(self._plain_url, autocommit=True)
        self._exists = False
        if not door:
            self.run(f"CREATE ROLE {self.role} LOGIN PASSWORD '{self.password}'")
            self.run(f"CREATE SCHEMA {self.schema} AUTHORIZATION {self.role}")

    def run(self, statement: str) -> "psycopg.Cursor[tuple[Any, ...]]":
        """As the administrator. A connection that was lost with the server is replaced."""
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
            # Should it wait for somebody who waits for it, then the other one is to be sent away.
            connection.execute("SET LOCAL deadlock_timeout = '60s'")
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [self.schema])
            tables = sql.SQL(", ").join(sql.Identifier(self.schema, name) for (name,) in rows.fetchall())
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables))
            yield

    def close(self) -> None:
        self.run(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self.run(f"DROP ROLE IF EXISTS {self.role}")
        self._connection.close()
