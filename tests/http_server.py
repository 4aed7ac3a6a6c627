"""The server in a thread of this process, on a free port, with limits that a test chooses."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

from starlette.requests import Request

from facts import eventually
from queuectl.errors import Unauthenticated
from queuectl.http import listen
from queuectl.http.app import application
from queuectl.http.caller import Caller
from queuectl.http.forwarded import Forwarded
from queuectl.http.proxies import proxies
from queuectl.http.routes import ROUTES
from queuectl.http.server import Server
from queuectl.http.server_state import ServerState
from queuectl.http.table import Route
from queuectl.http.wire_limits import Connections, WireLimits

USUAL = WireLimits()


class FixedTokens:
    """Each scope is the token of a caller with just this scope."""

    def known_caller(self, request: Request) -> Caller | None:  # noqa: ARG002
        return None

    def caller(self, request: Request) -> Caller | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in ("view", "operate", "enqueue", "admin"):
            raise Unauthenticated("the token is not known", "queuectl token create NAME makes one")
        return Caller(f"token:{token}", frozenset((token,)))  # type: ignore[arg-type]

    def admits(self, caller: Caller) -> bool:  # noqa: ARG002
        return True


class Running(NamedTuple):
    """A server that accepts connections. `end` does what a signal does to a server process."""

    port: int
    end: Callable[[], object]


@contextmanager
def running(
    state: ServerState,
    wire: WireLimits = USUAL,
    routes: Sequence[Route] = ROUTES,
    *,
    trusted: Sequence[str] = (),
    grace: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Running]:
    """Serve these routes while the block runs."""
    is_proxy = proxies(trusted)
    loops = list[asyncio.AbstractEventLoop]()
    with closing(listen.open_all("127.0.0.1", ["127.0.0.1"], 0, None)) as sockets:
        app = Forwarded(application(state, routes), state.root, is_proxy, wire.per_peer)
        server = Server(app, state, Connections(wire, is_proxy, state.root), grace=grace, tls=tls)
        server.on_start = lambda: loops.append(asyncio.get_running_loop())
        thread = threading.Thread(target=server.run, args=(sockets.all,))
        thread.start()
        eventually(lambda: loops)

        def end() -> None:
            if not loops[0].is_closed():
                loops[0].call_soon_threadsafe(server.end)

        try:
            yield Running(sockets.port, end)
        finally:
            if not state.draining:
                end()
            thread.join()
            state.pool.shutdown()
            state.waiters.shutdown()


@contextmanager
def serving(state: ServerState, wire: WireLimits = USUAL, routes: Sequence[Route] = ROUTES) -> Iterator[int]:
    """Run a server and return only its port."""
    with running(state, wire, routes) as server:
        yield server.port
