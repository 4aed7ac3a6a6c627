"""TLS connections on the wire: those that never finish their handshake are counted, and have a limited time."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from facts import Stopwatch, eventually
from http_server import running
from queuectl.http import listen
from queuectl.http.server_state import ServerState
from queuectl.http.wire_limits import WireLimits

SLOWLY = 5.0
"""Seconds in which a test expects the end of a connection, many times what the bounds of these tests are."""

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""The first bytes of a handshake."""


class TlsWire:
    """Connections to a server with TLS."""

    def __init__(self, port: int, certificate: str, end: Callable[[], object]) -> None:
        self.port, self.end = port, end
        self._trust = ssl.create_default_context(cafile=certificate)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A TCP connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.port), SLOWLY, source_address=(source, 0))

    def secured(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A connection whose handshake is complete."""
        return self._trust.wrap_socket(self.connect(source), server_hostname="127.0.0.1")

    def status(self, path: str, source: str = "127.0.0.1") -> int:
        """The status of one GET; 0 if the connection ends without a reply."""
        headers = (f"Host: 127.0.0.1:{self.port}", "Authorization: Bearer admin", "Connection: close")
        request = "\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""])
        with suppress(ConnectionError, ssl.SSLError), self.secured(source) as connection:
            connection.sendall(request.encode())
            return int(connection.recv(100).split()[1])
        return 0


@pytest.fixture
def start(state: ServerState, certificate: tuple[str, str]) -> Callable[..., object]:
    """Starts a server with TLS."""

    @contextmanager
    def started(limits: WireLimits) -> Iterator[TlsWire]:
        with running(state, limits, tls=listen.tls(*certificate)) as server:
            yield TlsWire(server.port, certificate[0], server.end)

    return started


Start = Callable[[WireLimits], "contextmanager[TlsWire]"]


@pytest.mark.parametrize("sent", [b"", HELLO, b"GET /v1 HTTP/1.1\r\n"], ids=["nothing", "half", "no TLS"])
def test_a_handshake_that_is_not_completed_ends_in_time(start: Start, sent: bytes) -> None:
    with start(WireLimits(head_time=0.3)) as wire, wire.connect() as connection:
        connection.sendall(sent)
        while connection.recv(1000):  # an alert of TLS may come before the end
            pass


def test_a_connection_counts_before_its_handshake(start: Start) -> None:
    with start(WireLimits(per_peer=1)) as wire:
        with wire.connect():
            eventually(lambda: wire.status("/v1") == 429)
            assert wire.status("/healthz") == 200
            assert wire.status("/v1", "127.0.0.2") == 200
        eventually(lambda: wire.status("/v1") == 200)


def test_a_client_without_a_handshake_does_not_delay_the_end(start: Start) -> None:
    with start(WireLimits()) as wire, wire.connect() as silent:
        assert wire.status("/healthz") == 200  # the silent connection was accepted before this one
        watch = Stopwatch()
        wire.end()
        assert silent.recv(1) == b""
    watch.check(1.0)


def test_a_client_that_does_not_answer_the_end_of_tls_is_cut_off(start: Start) -> None:
    with (
        start(WireLimits(head_time=0.3, linger=0.3)) as wire,
        socket.socket(fileno=wire.secured().detach()) as raw,
    ):
        raw.settimeout(SLOWLY)
        with suppress(ConnectionResetError):
            while raw.recv(1000):
                pass


def test_five_hundred_clients_without_a_handshake_delay_nobody(start: Start) -> None:
    with start(WireLimits()) as wire, ExitStack() as opened:
        for n in range(500):
            opened.enter_context(wire.connect(f"127.0.1.{n % 10 + 1}")).sendall(HELLO)
        for _ in range(20):
            watch = Stopwatch()
            assert wire.status("/v1/status") == 200
            watch.check(2.0)


def test_probes_are_answered_while_clients_without_a_handshake_fill_the_server(start: Start) -> None:
    limits = WireLimits(connections=40, reserve=8, per_peer=4)
    with start(limits) as wire, ExitStack() as opened:
        for n in range(120):
            opened.enter_context(wire.connect(f"127.0.1.{n % 30 + 1}"))
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/v1", 429)):
            assert wire.status(path) == status
