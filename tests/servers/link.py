"""One connection through a proxy: the data in both directions, and the disturbances of the network.

Everything here happens in the proxy's one thread. A socket is always read, whatever the network does, as a system
acknowledges what nobody will ever see; what has been read is passed on when the network lets it through.
"""

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from servers.talk import Talk

CHUNK = 1 << 16
ORDERLY_END, BROKEN = b"", None
"""The end of a stream, in place of bytes: a FIN or an RST."""

LINGER_NOT = struct.pack("ii", 1, 0)
"""The option of a socket that is closed with an RST."""

Arrival = bytes | None


@dataclass(frozen=True)
class Snare:
    """Lies in wait for a request with these bytes: its reply is lost, with the connection or without a sound."""

    match: bytes
    silently: bool


@dataclass
class Network:
    """The present disturbance between the clients and the server."""

    flowing: bool = True
    latency: float = 0.0
    snare: Snare | None = None
    lost: threading.Event = field(default_factory=threading.Event)


class Side:
    """One of the two sockets of a link, once there is one, and what is on its way to it."""

    def __init__(self, selector: BaseSelector, hear: Callable[[Arrival], None]) -> None:
        self._selector = selector
        self._hear = hear
        self._socket: socket.socket | None = None
        self._blocked = False
        self._ended = False
        self._watched = 0
        self.closed = False
        self.coming: deque[tuple[float, Arrival]] = deque()

    @property
    def attached(self) -> bool:
        """Whether this side has had a socket."""
        return self._socket is not None

    @property
    def finished(self) -> bool:
        """Whether nothing more can come from it or go to it."""
        return self.closed or (self._ended and not self.coming)

    def attach(self, end: socket.socket) -> None:
        """Set the socket of this side."""
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = end
        self._watch()

    def expect(self, data: Arrival) -> None:
        """Put something on its way to this side."""
        self.coming.append((time.monotonic(), data))

    def deliver(self, now: float, latency: float) -> None:
        """Let through what has been on its way for long enough."""
        while self.coming and not self._blocked and not self.closed and self.coming[0][0] + latency <= now:
            _, data = self.coming.popleft()
            if data:
                self._send(data)
            else:
                self._pass_on_the_end(data)
        self._watch()

    def patience(self, now: float, latency: float) -> float | None:
        """The seconds until the next delivery."""
        if not self.coming or self._blocked or self.closed:
            return None
        return max(0.0, self.coming[0][0] + latency - now)

    def close(self, *, abruptly: bool = False) -> None:
        """Close the socket: with a FIN, or with an RST. Twice is harmless."""
        self.closed = True
        self._watch()
        if self._socket is None:
            return
        if abruptly:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._socket.close()

    def _react(self, mask: int) -> None:
        if self.closed:  # an earlier event of the same round closed the link
            return
        if mask & EVENT_WRITE:
            self._blocked = False
        if mask & EVENT_READ:
            data = self._receive()
            self._ended = not data
            self._watch()
            self._hear(data)

    def _receive(self) -> Arrival:
        try:
            return self._socket.recv(CHUNK)
        except OSError:
            return BROKEN

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the connection has ended; the next read reports this too
        if sent < len(data):
            self.coming.appendleft((0.0, data[sent:]))
            self._blocked = True

    def _pass_on_the_end(self, end: Arrival) -> None:
        if end is BROKEN:
            self.close(abruptly=True)
        else:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        """Have the selector call back for what is wanted now, and for nothing else."""
        wanted = (0 if self._ended else EVENT_READ) | (EVENT_WRITE if self._blocked else 0)
        wanted = 0 if self.closed else wanted
        if wanted == self._watched or self._socket is None:
            return
        if self._watched:
            self._selector.unregister(self._socket)
        if wanted:
            self._selector.register(self._socket, wanted, self._react)
        self._watched = wanted


class Link:
    """A client's connection, and the one to the server that belongs to it, made when the network lets it."""

    def __init__(
        self,
        client: socket.socket,
        network: Network,
        selector: BaseSelector,
        dial: Callable[[], socket.socket],
        talk: Talk,
    ) -> None:
        self._network = network
        self._dial = dial
        self._talk = talk
        self._recent = b""
        self._caught: Snare | None = None
        self._muted = False
        self._server_is_gone = False
        self._client = Side(selector, self._from_client)
        self._server = Side(selector, self._from_server)
        self._client.attach(client)

    @property
    def held(self) -> int:
        """The bytes that have come and were not let through yet."""
        return sum(len(data or b"") for side in self._sides for _, data in side.coming)

    def move(self, now: float) -> bool:
        """Let through what may pass now; whether there is anything left to do."""
        if self._network.flowing and not self._muted:
            self._connect()
            for side in self._sides:
                side.deliver(now, self._network.latency)
            if self._caught and self._talk.settled():
                self._lose()
        if self._client.finished and self._server.finished:
            self.cut()
        return not (self._client.closed and self._server.closed)

    def patience(self, now: float) -> float | None:
        """The seconds until there is something to do, if nothing happens; None for as long as that takes."""
        if not self._network.flowing or self._muted:
            return None
        waits = [side.patience(now, self._network.latency) for side in self._sides]
        waits.append(0.01 if self._caught else None)
        return min((wait for wait in waits if wait is not None), default=None)

    def cut(self, *, abruptly: bool = False) -> None:
        """End both connections."""
        for side in self._sides:
            side.close(abruptly=abruptly)

    def lose_server(self) -> None:
        """End the connection to the server without ending that to the client."""
        self._server.close()
        self._server_is_gone = True

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self._client, self._server

    def _connect(self) -> None:
        if self._server.attached or self._server.closed:
            return
        try:
            self._server.attach(self._dial())
        except OSError:
            self.cut(abruptly=True)

    def _from_client(self, data: Arrival) -> None:
        if data:
            self._look_for_match(data)
            self._talk.sent(data)
        if not self._server_is_gone:
            self._server.expect(data)

    def _from_server(self, data: Arrival) -> None:
        if data:
            self._talk.answered(data)
        if not self._caught:
            self._client.expect(data)
        elif not data:
            self._lose()

    def _look_for_match(self, data: bytes) -> None:
        """A match may come in two pieces; one that went by as a whole before the snare was laid is none."""
        snare = self._network.snare
        overlap = len(snare.match) - 1 if snare else 0
        if snare and snare.match in self._recent[max(0, len(self._recent) - overlap) :] + data:
            self._caught, self._network.snare = snare, None
        self._recent = (self._recent + data)[-CHUNK:]

    def _lose(self) -> None:
        """The server has executed the request; drop its answer."""
        self._muted = self._caught.silently
        self._network.lost.set()  # before the client can see it
        if not self._muted:
            self._client.close(abruptly=True)
            self._server.close()
