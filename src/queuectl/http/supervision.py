"""The channel of a server to the worker that started it: `queuectl worker start --serve`.

The server gets its listening sockets from the holder, obeys the holder's bytes, and ends when the holder is dead.
"""

import asyncio
import socket
from typing import TYPE_CHECKING

import msgspec

from queuectl.errors import QueuectlError
from queuectl.worker.server_channel import DRAIN, LEAVE, MOST_SOCKETS

if TYPE_CHECKING:
    from queuectl.http.assembly import Listening
    from queuectl.http.server import Server
    from queuectl.http.server_state import ServerState

QUIET = 0.5
"""Seconds without a request, after which no client waits for a further answer. A client asks five times a second
whether its worker has left."""

LAST_SECONDS = 4.0
"""Seconds in which clients may go on asking after the worker has left."""


class Supervision:
    """The server's end of the channel, and the listening sockets that came with its first byte."""

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.set_inheritable(False)
        _, descriptors, _, _ = socket.recv_fds(self._channel, 1, MOST_SOCKETS)
        self.listeners = [socket.socket(fileno=each) for each in descriptors]
        for listener in self.listeners:
            listener.set_inheritable(False)

    def announce(self, listening: "Listening") -> None:
        """Tell the holder that the server accepts requests."""
        self._say({"url": listening.url})

    def refuse(self, error: QueuectlError) -> None:
        """Tell the holder why the server cannot start."""
        self._say({"fault": f"{error.message} ({error.hint})" if error.hint else error.message})

    def obey(self, server: "Server", state: "ServerState") -> None:
        """Obey the holder from now on. Must be called in the event loop of the server."""
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._obey_once, server, state)

    def _obey_once(self, server: "Server", state: "ServerState") -> None:
        data = self._channel.recv(16)
        if DRAIN in data:
            state.worker_drains = True
        if LEAVE in data:
            self._leaving = asyncio.create_task(leave(server, state))
        if not data:  # the holder is dead
            asyncio.get_running_loop().remove_reader(self._channel)
            server.end()

    def _say(self, document: dict[str, str | None]) -> None:
        try:
            self._channel.sendall(msgspec.json.encode(document) + b"\n")
        except OSError:  # the holder is dead, which `_obey_once` will notice
            return


async def leave(server: "Server", state: "ServerState") -> None:
    """End the server after its last client has got its answer.

    A request that waits for the end of the worker gets its answer when the server ends. But a client that asks again
    and again may just be between two requests.
    """
    loop = asyncio.get_running_loop()
    deadline, answered = loop.time() + LAST_SECONDS, -1
    while loop.time() < deadline and answered != server.server_state.total_requests:
        answered = server.server_state.total_requests
        try:
            await asyncio.wait_for(state.ending.wait(), QUIET)
        except TimeoutError:
            continue
        return
    server.end()
