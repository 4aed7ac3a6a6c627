"""PostgreSQL for the tests of the command line: an unused schema, and roles and databases with few rights."""

import secrets
from typing import Any, Protocol

import psycopg

from servers.endpoint import Endpoint
from servers.postgres import PostgresServer

PASSWORD = "s3cret/§"
"""The password of the roles of the tests. Its encoded form in a URL must not be printed either."""


class Database:
    """The shared server, and the roles and databases that a test creates there. `schema`: an unused name."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.schema = f"cli_{secrets.token_hex(6)}"
        self.admin = psycopg.connect(server.url(), autocommit=True)
        self._undo: list[str] = [f"DROP SCHEMA IF EXISTS {self.schema} CASCADE"]

    def url(self, **parts: Any) -> str:
        """The URL of the queue; `database`, `user` and other parts replace the defaults."""
        return self.server.url(**{"schema": self.schema, **parts})

    def at(self, user: str = "postgres", database: str = "postgres", **place: Any) -> str:
        """The name of the database in messages."""
        host, port = place.get("host", self.server.host), place.get("port", self.server.port)
        return f"postgresql://{user}@{host}:{port}/{database}?schema={self.schema}"

    def role(self, rights: str = "LOGIN") -> str:
        """A new role with `PASSWORD`."""
        name = f"role_{secrets.token_hex(6)}"
        self.run(f"CREATE ROLE {name} PASSWORD '{PASSWORD}' {rights}")
        self._undo.append(f"DROP OWNED BY {name}; DROP ROLE {name}")
        return name

    def database(self, options: str = "") -> str:
        """A new database."""
        name = f"db_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        self._undo.append(f"DROP DATABASE {name} WITH (FORCE)")
        return name

    def as_role(self, role: str, **parts: Any) -> str:
        """The URL for one of our roles."""
        return self.url(user=role, password=PASSWORD, **parts)

    def run(self, statement: str) -> None:
        """Run a statement as the administrator."""
        self.admin.execute(statement)

    def value(self, statement: str) -> Any:
        """Run a query as the administrator and return the answer."""
        row = self.admin.execute(statement).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Remove the schema, the roles and the databases."""
        for statement in reversed(self._undo):
            self.run(statement)
        self.admin.close()


class Kept(Protocol):
    """A place of a queue in a server."""

    @property
    def server(self) -> Endpoint: ...


def secret_of(url: str, text: str, database: Kept) -> str | None:
    """A password that can be read in a text, if one can."""
    written = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    known = (database.server.password, PASSWORD, "s3cret", "sesame", written or PASSWORD)
    return next((word for word in known if word in text), None)
