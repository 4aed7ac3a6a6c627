"""The HTTP application on a free port of this machine, over a store of its own."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.requests import Request

from facts import eventually
from http_client import Client
from queuectl.errors import Unauthenticated
from queuectl.http.app import application
from queuectl.http.call import Caller
from queuectl.http.routes import ROUTES
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.sqlite import SqliteStore


class FixedTokens:
    """Each scope is the token of a caller with just this scope."""

    def caller(self, request: Request) -> Caller | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in ("view", "operate", "enqueue", "admin"):
            raise Unauthenticated("the token is not known", "queuectl token create NAME makes one")
        return Caller(f"token:{token}", frozenset((token,)))  # type: ignore[arg-type]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[LocalQueue]:
    store = SqliteStore(f"sqlite:///{tmp_path}/queue.db")
    store.migrate()
    queue = LocalQueue(store, Sources({}, None, lambda text: None))
    yield queue
    queue.close()


@pytest.fixture
def state(queue: LocalQueue) -> ServerState:
    return ServerState(queue, FixedTokens(), lambda host: host.startswith("127.0.0.1:"))


@pytest.fixture
def server(state: ServerState) -> Iterator[Client]:
    """The application in a thread of this process; the client has the token of an administrator."""
    config = uvicorn.Config(application(state, ROUTES), port=0, log_level="warning", proxy_headers=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    eventually(lambda: running.started)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield Client(port, "admin")
    running.should_exit = True
    thread.join()
    state.pool.shutdown()
