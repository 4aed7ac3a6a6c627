"""What a short command loads to call a server, and that a command on a store loads none of it."""

from pathlib import Path

import pytest

from cli.conftest import front_door  # noqa: F401  a fixture
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.sqlite import SqliteStore
from test_import_cost import loaded_by

HEAVY = {
    "apsw", "asyncio", "concurrent", "dataclasses", "difflib", "encodings.idna", "getpass", "hashlib", "json",
    "logging", "multiprocessing", "pathlib", "rich", "ssl", "starlette", "subprocess", "tempfile", "tomllib",
    "traceback", "uvicorn",
}  # fmt: skip
"""Modules that a command has no use for. `http.client` needs `email`, `socket` and `urllib`."""

OURS_FOR_OTHERS = (
    "queuectl.http.app", "queuectl.http.client.changing", "queuectl.http.client.following",
    "queuectl.http.client.waiting", "queuectl.service.commands", "queuectl.service.local_queue",
    "queuectl.store.driver", "queuectl.store.sqlite", "queuectl.worker",
)  # fmt: skip


@pytest.fixture
def enqueue(tmp_path: Path, front_door: ServerState) -> set[str]:  # noqa: F811
    """The modules of `queuectl enqueue true` through a server, with a token that a variable gives."""
    store = SqliteStore(f"{tmp_path}/queue.db")
    store.migrate()
    front_door.queue = LocalQueue(store, Sources({}, None, lambda text: None))
    found = loaded_by(tmp_path, "--store", front_door.public_url, "enqueue", "true", QUEUECTL_TOKEN="t")
    assert len(front_door.queue.status().jobs) > 0
    front_door.queue.close()
    return found


def test_an_enqueue_through_a_server_loads_http_and_no_tls(enqueue: set[str]) -> None:
    assert {"http.client", "queuectl.http.client.sending"} <= enqueue
    assert not enqueue & HEAVY


def test_an_enqueue_through_a_server_loads_no_store(enqueue: set[str]) -> None:
    assert not {name for name in enqueue if name.startswith(OURS_FOR_OTHERS)}
