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
from typing import Literal

import psycopg

from queuectl.bootstrap import open_store
from queuectl.store.protocol import Store
from servers.postgres import PostgresServer

QUEUECTL = Path(sys.executable).with_name("queuectl")
Kind = Literal["sqlite", "postgres"]


class Place:
    """Runs the installed `queuectl` with a store of its own."""

    def __init__(self, root: Path, kind: Kind) -> None:
        self.root, self.kind = root, kind
        self.database = root / "queue.db"
        self.schema = f"bench_{secrets.token_hex(4)}"
        self.url = f"sqlite:///{self.database}" if kind == "sqlite" else postgres().url(schema=self.schema)
        self.env = {**os.environ, "HOME": str(root), "QUEUECTL_STORE": self.url}

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
        shutil.rmtree(root)
        if kind == "postgres":
            here.sql("DROP SCHEMA IF EXISTS {schema} CASCADE")


@cache
def postgres() -> PostgresServer:
    """A server with its usual settings, `fsync` among them. It shares the cores with what is measured."""
    server = PostgresServer()
    server.start()
    atexit.register(server.close)
    return server
