"""A throw-away home and store for one measurement, and the commands in it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from queuectl.store.sqlite import SqliteStore

QUEUECTL = Path(sys.executable).with_name("queuectl")


class Place:
    """Runs the installed `queuectl` with a store of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = root / "queue.db"
        self.env = {**os.environ, "HOME": str(root), "QUEUECTL_STORE": f"sqlite:///{self.database}"}

    def run(self, *words: str) -> str:
        """One command; its stdout."""
        done = subprocess.run(
            [str(QUEUECTL), *words], env=self.env, cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout

    def store(self) -> SqliteStore:
        """The store itself."""
        return SqliteStore(str(self.database))

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
def place() -> Iterator[Place]:
    """A place that is gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="queuectl-bench-"))
    try:
        yield Place(root)
    finally:
        shutil.rmtree(root)
