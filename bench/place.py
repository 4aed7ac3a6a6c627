"""A throw-away home and store for one measurement, and the commands in it."""

import atexit
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psycopg
from pymongo import MongoClient
from pymongo.database import Database

from queuectl.bootstrap import open_store
from queuectl.store.protocol import Store
from servers.mongo import MongoServer
from servers.postgres import PostgresServer
from servers.redis import RedisServer
from servers.replica_set import ReplicaSet

QUEUECTL = Path(sys.executable).with_name("queuectl")
Kind = Literal["sqlite", "postgres", "mongodb", "replicas", "redis", "archived"]


class Place:
    """Runs the installed `queuectl` with a store of its own."""

    def __init__(self, root: Path, kind: Kind) -> None:
        self.root, self.kind = root, kind
        self.database = root / "queue.db"
        self.schema = f"bench_{secrets.token_hex(4)}"
        self.url = self._url()
        self.env = {**os.environ, "HOME": str(root), "QUEUECTL_STORE": self.url}

    def _url(self) -> str:
        if self.kind == "sqlite":
            return f"sqlite:///{self.database}"
        if self.kind == "postgres":
            return postgres().url(schema=self.schema)
        if self.kind == "redis":
            return redis().url(name=self.schema)
        if self.kind == "archived":
            return redis().url(name=self.schema, archive=self._documents())
        return self._documents()

    def _documents(self) -> str:
        """The URL of our database in MongoDB."""
        return (replicas() if self.kind == "replicas" else mongodb()).url(self.schema)

    def run(self, *words: str) -> str:
        """One command; its stdout."""
        done = subprocess.run(
            [str(QUEUECTL), *words], env=self.env, cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout

    def store(self) -> Store:
        """The store itself."""
        return open_store(self.url)

    def sql(self, *statements: str) -> None:
        """Run statements on the server, as its administrator, `{schema}` being ours."""
        with psycopg.connect(postgres().url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.replace("{schema}", self.schema).encode())

    @contextmanager
    def base(self) -> Iterator["Database[dict[str, Any]]"]:
        """Our database in MongoDB, while the block lasts."""
        with MongoClient[dict[str, Any]](self._documents()) as client:
            yield client[self.schema]

    def clear(self) -> None:
        """Leave nothing of it."""
        shutil.rmtree(self.root)
        if self.kind == "postgres":
            self.sql("DROP SCHEMA IF EXISTS {schema} CASCADE")
        if self.kind in ("redis", "archived"):
            redis().delete(f"{{{self.schema}}}")
        if self.kind in ("mongodb", "replicas", "archived"):
            with self.base() as base:
                base.client.drop_database(base.name)

    @contextmanager
    def worker(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker while the block lasts."""
        process = subprocess.Popen(
            [str(QUEUECTL), "worker", "start", *words],
            env=self.env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def place(kind: Kind = "sqlite") -> Iterator[Place]:
    """A place that is gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="queuectl-bench-"))
    here = Place(root, kind)
    try:
        yield here
    finally:
        here.clear()


@cache
def postgres() -> PostgresServer:
    """A server with its usual settings, `fsync` among them. It shares the cores with what is measured."""
    server = PostgresServer()
    server.start()
    atexit.register(server.close)
    return server


@cache
def mongodb() -> MongoServer:
    """A standalone server with its journal. It shares the cores with what is measured."""
    server = MongoServer()
    server.start()
    atexit.register(server.close)
    return server


@cache
def replicas() -> ReplicaSet:
    """A replica set of one."""
    replicas = ReplicaSet(1)
    replicas.start()
    atexit.register(replicas.close)
    return replicas


@cache
def redis() -> RedisServer:
    """A server that writes to disk before it answers. It shares the cores with what is measured."""
    server = RedisServer()
    server.start()
    atexit.register(server.close)
    return server
