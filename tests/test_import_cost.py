"""The modules that a short command loads. Each call pays for its imports, so slow modules are listed here and excluded.

Asked of a fresh interpreter that runs the command line itself. What msgspec, apsw and argparse load on their own is
theirs to answer for (`typing_extensions`, `uuid`, `gettext`) and not listed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from servers.redis import GivenRedis, RedisServer

HEAVY = frozenset(
    (
        "asyncio", "base64", "bz2", "concurrent", "dataclasses", "difflib", "email", "getpass", "hashlib", "_hashlib",
        "http", "importlib.metadata", "json", "logging", "lzma", "multiprocessing", "pathlib", "pickle", "random",
        "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "tomllib",
        "traceback", "unittest", "urllib", "xml", "zoneinfo", "dotenv", "markdown_it", "pygments", "rich", "shtab",
    )
)  # fmt: skip

OURS_FOR_OTHERS = frozenset(
    (
        "queuectl.cli.bulk", "queuectl.cli.completion", "queuectl.cli.demo", "queuectl.cli.doctor", "queuectl.cli.jobs",
        "queuectl.cli.render", "queuectl.cli.worker", "queuectl.service.commands",
        "queuectl.service.queue", "queuectl.service.queue_status", "queuectl.service.shapes", "queuectl.service.slots",
        "queuectl.service.status", "queuectl.service.worker_status",
        "queuectl.store.memory", "queuectl.worker",
    )
)  # fmt: skip
"""Modules of queuectl that a plain enqueue does not need."""

WRAPPER = """
import sys
from queuectl.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(*sorted(sys.modules), sep="\\n", file=sys.stderr)
sys.exit(code)
"""


def loaded_by(home: Path, *words: str, **variables: str) -> set[str]:
    """The modules of a process that has run this command line."""
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    environment = keep | {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, *words],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stderr.split())


@pytest.fixture(scope="module")
def enqueue(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that `queuectl enqueue true` loads on an existing SQLite store."""
    home = tmp_path_factory.mktemp("home")
    loaded_by(home, "enqueue", "true")
    return loaded_by(home, "enqueue", "true")


def test_the_measured_command_really_ran_on_sqlite(enqueue: set[str]) -> None:
    assert {"queuectl.cli.enqueue", "queuectl.store.sqlite.write", "apsw", "msgspec"} <= enqueue


def test_an_enqueue_loads_no_slow_module(enqueue: set[str]) -> None:
    assert not enqueue & HEAVY


def test_an_enqueue_loads_no_module_of_other_commands(enqueue: set[str]) -> None:
    assert not {name for name in enqueue if name in OURS_FOR_OTHERS or name.startswith("queuectl.worker")}


@pytest.mark.parametrize(
    "words", [("list",), ("status",), ("show", "1"), ("logs", "1"), ("cancel", "1")], ids=" ".join
)
def test_reading_without_a_terminal_loads_no_terminal_library(tmp_path: Path, words: tuple[str, ...]) -> None:
    loaded_by(tmp_path, "enqueue", "true")
    loaded = loaded_by(tmp_path, *words)
    assert not loaded & {"rich", "asyncio", "ssl", "logging", "subprocess", "dataclasses", "hashlib", "shtab"}


@pytest.mark.parametrize("words", [("enqueue", "true"), ("list",), ("serve", "--help")], ids=" ".join)
def test_only_serve_loads_the_http_server(tmp_path: Path, words: tuple[str, ...]) -> None:
    loaded = loaded_by(tmp_path, *words)
    assert not {name for name in loaded if name.startswith(("queuectl.http", "starlette", "uvicorn"))}


def test_the_help_opens_no_store(tmp_path: Path) -> None:
    loaded = loaded_by(tmp_path, "enqueue", "--help")
    assert not {"apsw", "queuectl.store.sqlite"} & loaded
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "words", [("enqueue", "true"), ("status",), ("list", "--state", "pending")], ids=" ".join
)
def test_commands_that_need_no_ended_job_do_not_load_the_archive_driver(
    tmp_path: Path, redis_server: RedisServer | GivenRedis, words: tuple[str, ...]
) -> None:
    name = f"cost_{tmp_path.name.strip('_')[-20:]}"
    url = redis_server.url(name=name, archive="mongodb://127.0.0.1:1/past")
    loaded_by(tmp_path, "--store", url, "enqueue", "true")
    loaded = loaded_by(tmp_path, "--store", url, *words)
    redis_server.delete(f"{{{name}}}")
    assert "redis" in loaded
    assert not loaded & {"pymongo", "bson"}
