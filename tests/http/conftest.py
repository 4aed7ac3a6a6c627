"""The HTTP application on a free port of this machine, over a store of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request

from http_client import Client
from http_server import serving
from queuectl.errors import Unauthenticated
from queuectl.http.call import Caller
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

    def admits(self, caller: Caller) -> bool:  # noqa: ARG002
        return True


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[LocalQueue]:
    store = SqliteStore(f"{tmp_path}/queue.db")
    store.migrate()
    queue = LocalQueue(store, Sources({}, None, lambda text: None))
    yield queue
    queue.close()


@pytest.fixture
def state(queue: LocalQueue) -> Iterator[ServerState]:
    state = ServerState(queue, FixedTokens(), lambda host: host.startswith("127.0.0.1:"))
    queue.time_verbs(state.metrics.note_verb)
    with state.health.probing(queue):
        yield state


@pytest.fixture
def server(state: ServerState) -> Iterator[Client]:
    """The application in a thread of this process; the client has the token of an administrator."""
    with serving(state) as port:
        yield Client(port, "admin")
