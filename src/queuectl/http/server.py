"""The process that serves the application over sockets that are already open, and ends by signals."""

import asyncio
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from queuectl.http.guard import GuardedProtocol
from queuectl.http.notify import notify
from queuectl.http.server_state import ServerState
from queuectl.http.tls_listener import TlsListener
from queuectl.http.wire_limits import Connections

GRACE = 10.0
"""Seconds that running requests have after the first signal."""

LAST_REPLIES = 0.2
"""Seconds in which the replies of cancelled requests are sent."""


class Server(uvicorn.Server):
    """uvicorn with sockets, protocol and end of ours.

    The first signal wakes the streams at once: uvicorn waits for the last connection before it tells the application
    anything, which with one open stream is never. The second signal, or the end of the grace, cancels what still runs.

    on_start  is called when the sockets accept, in the event loop
    on_end    is called when the server begins to end, while the sockets still accept
    beside    is a coroutine function that runs beside the server
    """

    def __init__(
        self,
        application: ASGIApp,
        state: ServerState,
        connections: Connections,
        *,
        tls: ssl.SSLContext | None = None,
        grace: float = GRACE,
    ) -> None:
        # Forwarded headers would let every client choose its address: uvicorn trusts them from loopback by default.
        super().__init__(
            uvicorn.Config(
                application,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=connections.limits.idle_time,
            )
        )
        self._state, self._connections, self._tls = state, connections, tls
        self._grace = grace
        self.on_start: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.beside: Callable[[], Coroutine[None, None, None]] | None = None

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Accept connections on these sockets, with TLS on all but a Unix socket."""
        loop = asyncio.get_running_loop()
        protocol = partial(
            GuardedProtocol,
            self._connections,
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )
        self.servers = []
        for listener in sockets or ():
            if self._tls is None or listener.family == socket.AF_UNIX:
                self.servers.append(await loop.create_server(protocol, sock=listener))
            else:
                self.servers.append(TlsListener(listener, self._tls, self._connections, protocol))  # type: ignore[arg-type]
        if self.beside:
            self._beside = asyncio.create_task(self.beside())
        self.started = True
        self.on_start()
        notify("READY=1")

    async def main_loop(self) -> None:
        """Renew the date of the replies each second until the end begins. uvicorn itself wakes ten times as often."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._state.ending.wait(), 1.0)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """TERM and INT end the server while it runs. A signal that is ignored stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        taken = [
            number
            for number in (signal.SIGTERM, signal.SIGINT)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        for number in taken:
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def end(self) -> None:
        """Begin the shutdown. A second call ends the server at once. Must be called in the event loop."""
        if self.should_exit:
            self.force_exit = True
            self._cancel_requests()
            return
        notify("STOPPING=1")
        self.on_end()
        self._state.ending.set()
        self.should_exit = True
        asyncio.get_running_loop().call_later(self._grace, self._cancel_requests)

    def _cancel_requests(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()
        asyncio.get_running_loop().call_later(LAST_REPLIES, self._abort_connections)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
