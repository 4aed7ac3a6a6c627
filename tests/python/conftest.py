"""A home of its own for each test of the Python API, and a worker where one is wanted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl import Queue


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("QUEUECTL_") or name in ("DATABASE_URL", "MONGODB_URI", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def queue(home: Path) -> Iterator[Queue]:
    with Queue() as queue:
        yield queue


def drain() -> None:
    """Run a worker in this home until nothing is left to do."""
    command = [sys.executable, "-m", "queuectl", "-q", "worker", "start", "--drain", "--count", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def worker(home: Path) -> Iterator[None]:
    """A worker that runs while the test does."""
    command = [sys.executable, "-m", "queuectl", "-q", "worker", "start", "--count", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    assert process.wait(timeout=30) == 0
