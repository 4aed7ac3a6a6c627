"""A server program of the tests is a child process that ends with its owner and leaves no files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from e2e.harness import alive
from facts import eventually
from servers.daemon import Daemon


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """One that has not been started."""
    with closing(Daemon("sleeper", ended_by=signal.SIGTERM)) as daemon:
        yield daemon


def test_the_server_never_runs_as_root(daemon: Daemon) -> None:
    daemon.run("id", "-u")
    assert daemon.log_text().strip() not in ("", "0")


def test_closing_ends_the_server_and_removes_its_directory(daemon: Daemon) -> None:
    daemon.start("sleep", "60", ready=lambda: True)
    daemon.close()
    daemon.close()
    assert not alive(daemon.pid)
    assert not daemon.directory.exists()


def test_closing_ends_the_children_of_the_server(daemon: Daemon) -> None:
    daemon.start("sh", "-c", "sleep 60 & echo $!; wait", ready=lambda: bool(daemon.log_text()))
    child = int(daemon.log_text())
    daemon.close()
    assert not alive(child)


def test_the_error_of_a_server_that_ends_at_once_contains_its_output(daemon: Daemon) -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        daemon.start("sh", "-c", "echo no such luck; exit 1", ready=lambda: False)


def test_the_server_ends_when_its_owner_is_killed() -> None:
    script = """
import os, signal
from servers.daemon import Daemon
daemon = Daemon("sleeper", ended_by=signal.SIGTERM)
daemon.start("sleep", "60", ready=lambda: True)
print(daemon.directory, daemon.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, check=False)
    directory, pid = done.stdout.decode().split()
    eventually(lambda: not Path(directory).exists(), what="its directory removed")
    assert not alive(int(pid))
