"""Accepts TLS connections. Each is counted and has a limited time from its first moment, before its handshake."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

from queuectl.http.guard import GuardedProtocol
from queuectl.http.wire_limits import Admission, Connections

log = logging.getLogger("queuectl.http")

AT_ONCE = 128
"""Connections that are accepted before the event loop does other work."""

PAUSE = 0.1
"""Seconds without accepting after a failure, such as too many open files."""


class TlsListener:
    """Accepts connections at one socket, and does their handshakes. Looks like a server of asyncio.

    `create_server(ssl=…)` calls the protocol of a connection only after the handshake, so clients that never complete
    one would be counted nowhere.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        connections: Connections,
        protocol: Callable[[Admission], GuardedProtocol],
    ) -> None:
        self._listener, self._context = listener, context
        self._connections, self._protocol = connections, protocol
        self._loop = asyncio.get_running_loop()
        self._handshakes = set[asyncio.Task[object]]()
        self._is_closed = False
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more connections, and end the handshakes."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for handshake in self._handshakes:
            handshake.cancel()

    async def wait_closed(self) -> None:
        """Return at once: uvicorn itself waits for the connections."""

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot accept a connection: %s", error)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE, self._resume)
                return
            accepted.setblocking(False)
            self._begin(accepted, self._connections.admit(address[0]))

    def _begin(self, accepted: socket.socket, admission: Admission) -> None:
        limits = self._connections.limits
        handshake: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(
                partial(self._protocol, admission),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=limits.time_of_head(probes_only=admission.probes_only),
                ssl_shutdown_timeout=limits.linger,
            )
        )
        admission.close = handshake.cancel
        self._handshakes.add(handshake)
        handshake.add_done_callback(partial(self._ended, accepted, admission))

    def _ended(
        self, accepted: socket.socket, admission: Admission, handshake: "asyncio.Task[object]"
    ) -> None:
        """Forget a handshake. If it failed, the protocol was not called: the connection is counted no more."""
        self._handshakes.discard(handshake)
        error = None if handshake.cancelled() else handshake.exception()
        if not handshake.cancelled() and error is None:
            return
        accepted.close()
        self._connections.leave(admission)
        if error is not None and not isinstance(error, OSError):
            log.error("a TLS handshake failed", exc_info=error)
