"""The network between a client and a server, which a test can disturb at any moment.

One thread moves all bytes. What a test calls is done in that thread, and done when the call is back.
"""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from selectors import EVENT_READ, DefaultSelector
from typing import Any, TypeVar

from servers.endpoint import free_port
from servers.link import Link, Network, Snare
from servers.talk import AnyTalk, Talk

Answer = TypeVar("Answer")


class Proxy:
    """A port of this machine that leads to a server. `talk` detects when the server has answered completely."""

    def __init__(
        self, host: str, port: int, *, talk: Callable[[], Talk] = AnyTalk, listen_on: str = "127.0.0.1"
    ) -> None:
        self.host = listen_on
        self.port = free_port()
        self._target = (host, port)
        self._talk = talk
        self._network = Network()
        self._links: list[Link] = []
        self._selector = DefaultSelector()
        self._orders: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._ear, EVENT_READ, self._obey)
        self._listener: socket.socket | None = None
        self._listen()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> threading.Event:
        """Set when `lose_reply` or `black_hole_reply` has lost a reply."""
        return self._network.lost

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return self._order(lambda: len(self._links))

    @property
    def held(self) -> int:
        """The bytes that have come in and were not passed on: what a black hole has swallowed so far."""
        return self._order(lambda: sum(link.held for link in self._links))

    def pass_through(self) -> None:
        """Be no obstacle any more, for what a black hole has held neither; forget what was to be lost."""
        self._order(self._pass_through)

    def lead_to(self, host: str, port: int) -> None:
        """Lead new connections to another server, and break those that there are."""
        self._order(lambda: self._lead_to(host, port))

    def reset(self) -> None:
        """Break all connections: either end gets an RST. New ones are what they were before."""
        self._order(self._reset)

    def refuse(self) -> None:
        """Break all connections, and refuse new ones."""
        self._order(self._refuse)

    def black_hole(self) -> None:
        """Take everything and pass on nothing, in either direction; new connections are made, and silent."""
        self._order(lambda: self._set(flowing=False, latency=0.0))

    def delay(self, seconds: float) -> None:
        """Pass everything on that much later, in either direction."""
        self._order(lambda: self._set(flowing=True, latency=seconds))

    def half_open(self) -> None:
        """End all connections to the server and not those to the clients. New connections work."""
        self._order(lambda: [link.lose_server() for link in self._links])

    def lose_reply(self, match: bytes) -> None:
        """Break the connection that next sends `match`, after the server has answered and before the client receives
        the answer."""
        self._order(lambda: self._lay(Snare(match, silently=False)))

    def black_hole_reply(self, match: bytes) -> None:
        """As `lose_reply`, but the connection stays open and silent for ever."""
        self._order(lambda: self._lay(Snare(match, silently=True)))

    def close(self) -> None:
        """End all connections and the thread. Twice is harmless."""
        if not self._thread.is_alive():
            return
        self._order(self._refuse)
        self._bell.close()
        self._thread.join(10)
        self._ear.close()
        self._selector.close()

    def _order(self, act: Callable[[], Answer]) -> Answer:
        """Have the thread do it, and wait until it has."""
        done: Future[Answer] = Future()
        self._orders.put((act, done))
        self._bell.send(b"!")
        return done.result(10)

    def _run(self) -> None:
        while self._selector.get_map().get(self._ear):
            for key, mask in self._selector.select(self._patience()):
                key.data(mask)
            self._links = [link for link in self._links if link.move(time.monotonic())]

    def _patience(self) -> float | None:
        waits = [link.patience(time.monotonic()) for link in self._links]
        return min((wait for wait in waits if wait is not None), default=None)

    def _obey(self, _: int) -> None:
        if not self._ear.recv(1):
            self._selector.unregister(self._ear)
            return
        act, done = self._orders.get()
        done.set_result(act())

    def _accept(self, _: int) -> None:
        if self._listener is None:  # since a moment ago
            return
        try:
            client = self._listener.accept()[0]
        except OSError:  # the client has thought better of it
            return
        self._links.append(Link(client, self._network, self._selector, self._dial, self._talk()))

    def _dial(self) -> socket.socket:
        return socket.create_connection(self._target, timeout=5)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port))
            self._listener.setblocking(False)
            self._selector.register(self._listener, EVENT_READ, self._accept)

    def _set(self, *, flowing: bool, latency: float) -> None:
        self._listen()
        self._network.flowing = flowing
        self._network.latency = latency

    def _pass_through(self) -> None:
        self._set(flowing=True, latency=0.0)
        self._network.snare = None

    def _lead_to(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._reset()

    def _reset(self) -> None:
        for link in self._links:
            link.cut(abruptly=True)

    def _refuse(self) -> None:
        self._reset()
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _lay(self, snare: Snare) -> None:
        self._network.lost.clear()
        self._network.snare = snare
