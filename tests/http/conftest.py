"""The HTTP application on a free port of this machine, over a store of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from http_client import Client
from http_process import Home, self_signed
from http_server import FixedTokens, serving
from http_site import Site
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.sqlite import SqliteStore


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


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("h"))
    yield home
    home.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of this machine that signs itself, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"), "DNS:localhost,IP:127.0.0.1")
