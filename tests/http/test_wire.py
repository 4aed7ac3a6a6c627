"""What arrives on a socket: requests that are not clear, too large or too slow, and any bytes at all."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from facts import Stopwatch, eventually
from http_client import Client
from http_server import running, serving
from queuectl.http.call import Call, Reply
from queuectl.http.routes import ROUTES
from queuectl.http.server_state import ServerState
from queuectl.http.table import Route
from queuectl.http.wire_limits import WireLimits

QUICK = WireLimits(head_time=0.3, body_time=0.3, probe_time=0.3, linger=0.3)
SLOWLY = 5.0
"""Seconds in which a test expects the end of a connection, many times what the bounds of these tests are."""


def held(call: Call) -> Reply:
    """Answers when the test says."""
    HOLD.wait(SLOWLY)
    return Reply({"body": call.body})


def echoed(call: Call) -> Reply:
    return Reply({"body": call.body})


HOLD = threading.Event()
TESTED = (
    *ROUTES,
    *(
        Route(
            method="POST",
            path=path,
            scope="view",
            summary="",
            handler=handler,
            body=Any,
            answers={},
            reads=True,
        )
        for path, handler in (("/v1/echo", echoed), ("/v1/held", held))
    ),
)


class Wire:
    """Raw connections to a server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SLOWLY, source_address=(source, 0))

    def send(self, *parts: bytes) -> bytes:
        """What comes back for these bytes until the server closes the connection."""
        with self.connect() as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except OSError:  # the server has refused the request, and does not read the rest
                    break
            return rest_of(connection)

    def head(self, first: str, *headers: str) -> bytes:
        """A whole head with a right Host and a token."""
        usual = (f"Host: 127.0.0.1:{self.port}", "Authorization: Bearer admin")
        return "\r\n".join([first, *usual, *headers, "", ""]).encode()


def rest_of(connection: socket.socket) -> bytes:
    """All bytes until the end of the connection."""
    found = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return found
        if not part:
            return found
        found += part


def one_reply(connection: socket.socket) -> bytes:
    """The bytes of one reply, which has a length; the connection stays open."""
    found = b""
    while (
        length := re.search(rb"content-length: (\d+)\r\n.*?\r\n\r\n", found, re.DOTALL | re.IGNORECASE)
    ) is None or (len(found) < length.end() + int(length[1])):
        part = connection.recv(65536)
        assert part, found
        found += part
    return found


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1]) if reply else 0


def problem_of(reply: bytes) -> dict[str, Any]:
    """The problem document of a reply that closes the connection."""
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head.lower(), reply
    assert b"connection: close" in head.lower(), reply
    return dict(json.loads(body))


@pytest.fixture
def wire(state: ServerState) -> Iterator[Wire]:
    HOLD.clear()
    with serving(state, QUICK, TESTED) as port:
        yield Wire(port)
        HOLD.set()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (("Content-Length: 2", "Content-Length: 3"), b"{} "),
        (("Content-Length: 2", "Content-Length: 2"), b"{}"),
        (("Content-Length: 2, 2",), b"{}"),
        (("Content-Length: -2",), b"{}"),
        (("Content-Length: +2",), b"{}"),
        (("Content-Length: 2", "Transfer-Encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n"),
        (("Transfer-Encoding: chunked", "Content-Length: 2"), b"2\r\n{}\r\n0\r\n\r\n"),
        (("Transfer-Encoding: chunked, identity",), b"2\r\n{}\r\n0\r\n\r\n"),
        (("Transfer-Encoding: chunked",), b"x\r\n{}\r\n0\r\n\r\n"),
        (("Host: other",), b""),
        (("Bad Name: x",), b""),
        (("X: a\0b",), b""),
        ((" folded: x",), b""),
    ],
    ids=str,
)
def test_a_head_or_body_that_is_not_clear_is_refused_and_the_connection_closed(
    wire: Wire, headers: tuple[str, ...], body: bytes
) -> None:
    reply = wire.send(wire.head("POST /v1/echo HTTP/1.1", "Content-Type: application/json", *headers) + body)
    assert status_of(reply) == 400
    assert reply.count(b"HTTP/1.1 4") == 1
    assert problem_of(reply)["code"] == "invalid_input"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_without_a_host_is_refused(wire: Wire, version: str) -> None:
    reply = wire.send(f"GET /healthz HTTP/{version}\r\n\r\n".encode())
    assert status_of(reply) == 400
    assert "Host" in problem_of(reply)["detail"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1 HTTP/1.1\r\nX: " + b"x" * 1024**2, 431),
        (b"GET /v1 HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 33_000 + b"\r\n\r\n", 431),
        (b"GET /v1 HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 431),
        (b"GET /v1 HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /" + b"x" * 1024**2, 431),
    ],
    ids=["1 MB", "one long header", "10,000 headers", "101 headers", "long URL", "1 MB URL"],
)
def test_a_head_that_is_too_large_is_refused(wire: Wire, request_: bytes, status: int) -> None:
    reply = wire.send(request_)
    assert status_of(reply) == status
    assert problem_of(reply)["code"] == "too_large"


def test_a_trailer_that_is_too_long_ends_the_connection(wire: Wire) -> None:
    head = wire.head("POST /v1/held HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked")
    reply = wire.send(head + b"2\r\n{}\r\n0\r\n", b"X: " + b"x" * 1024**2)
    assert status_of(reply) in (0, 431)


def test_a_trailer_changes_no_header(wire: Wire) -> None:
    head = wire.head(
        "POST /v1/echo HTTP/1.1",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        "Connection: close",
    )
    reply = wire.send(head + b"2\r\n{}\r\n0\r\nContent-Type: text/plain\r\nHost: evil\r\n\r\n")
    assert status_of(reply) == 200


@pytest.mark.parametrize(
    "start", [b"G", b"GET /v1 HTTP/1.1\r\n", b"GET /v1 HTTP/1.1\r\nHost: h\r\n", b"\r\n"]
)
def test_half_a_head_is_refused_in_time(wire: Wire, start: bytes) -> None:
    assert status_of(wire.send(start)) == 408


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(wire: Wire) -> None:
    """Each byte of a slow client must not start the time again."""
    with wire.connect() as connection:
        connection.settimeout(0.05)
        connection.sendall(b"GET /")

        def answer() -> bytes:
            try:
                connection.sendall(b"x")
                return connection.recv(65536)
            except TimeoutError:
                return b""

        assert status_of(eventually(answer, within=SLOWLY)) == 408


def test_a_connection_that_sends_nothing_is_closed(wire: Wire) -> None:
    assert wire.send() == b""


def test_a_body_that_comes_too_slowly_is_refused(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    head = wire.head("POST /v1/echo HTTP/1.1", "Content-Type: application/json", "Content-Length: 100000")
    reply = wire.send(head + b"{")
    assert status_of(reply) == 408
    assert reply.count(b"HTTP/1.1 4") == 1
    assert not caplog.messages


def test_an_empty_line_while_a_request_runs_ends_nothing(wire: Wire) -> None:
    """Some clients send one behind a body. It begins no head, whose time would end the request that runs."""
    head = wire.head("POST /v1/held HTTP/1.1", "Content-Type: application/json", "Content-Length: 2")
    with wire.connect() as connection:
        connection.sendall(head + b"{}\r\n")
        connection.settimeout(2 * QUICK.head_time)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        HOLD.set()
        assert status_of(connection.recv(65536)) == 200


def test_a_client_that_does_not_read_its_reply_is_cut_off(state: ServerState) -> None:
    limits = WireLimits(per_peer=1, body_time=0.3)
    with serving(state, limits, TESTED) as port:
        wire = Wire(port)
        head = wire.head(
            "POST /v1/echo HTTP/1.1", "Content-Type: application/json", "Content-Length: 10000002"
        )
        with wire.connect() as stuck:
            stuck.sendall(head + b'"' + b"x" * 10_000_000 + b'"')
            stuck.recv(1)
            assert status_of(ask(wire, "/v1")) == 429
            eventually(lambda: status_of(ask(wire, "/v1")) == 200, within=SLOWLY)


def test_a_body_that_the_server_does_not_read_yet_may_wait(wire: Wire) -> None:
    """The client waits for `100 Continue`, which comes when the handler begins to read; no time of the client's."""
    head = wire.head(
        "POST /v1/echo HTTP/1.1",
        "Content-Type: application/json",
        "Content-Length: 2",
        "Expect: 100-continue",
        "Connection: close",
    )
    with wire.connect() as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(b"{}")
        assert status_of(rest_of(connection)) == 200


def test_the_body_of_a_refused_request_is_dropped_and_the_next_request_answered(wire: Wire) -> None:
    head = wire.head("POST /v1/status HTTP/1.1", "Content-Length: 5")
    with wire.connect() as connection:
        connection.sendall(head)
        assert status_of(one_reply(connection)) == 405
        connection.sendall(b"12345" + wire.head("GET /healthz HTTP/1.1", "Connection: close"))
        assert status_of(rest_of(connection)) == 200


def test_an_endless_body_of_a_refused_request_ends_the_connection(wire: Wire) -> None:
    head = wire.head("POST /v1/status HTTP/1.1", f"Content-Length: {10**12}")
    assert status_of(wire.send(head, *[b"x" * 65536] * 400)) == 405


def test_a_connection_without_a_further_request_is_closed(state: ServerState) -> None:
    with serving(state, WireLimits(idle_time=1), TESTED) as port:
        wire = Wire(port)
        for parts in (
            (wire.head("GET /healthz HTTP/1.1"),),
            (wire.head("POST /v1/status HTTP/1.1", "Content-Length: 1"), b"x"),
        ):
            assert status_of(wire.send(*parts)) in (200, 405)


def test_requests_in_one_packet_are_answered_in_order(wire: Wire) -> None:
    first, last = wire.head("GET /healthz HTTP/1.1"), wire.head("GET /v1 HTTP/1.1", "Connection: close")
    reply = wire.send(first + first + last)
    assert reply.count(b"HTTP/1.1 200") == 3
    assert reply.index(b"\r\n\r\nok") < reply.index(b'"version"')


def test_a_bad_request_behind_one_that_runs_gets_no_reply_in_its_place(wire: Wire) -> None:
    head = wire.head("POST /v1/held HTTP/1.1", "Content-Type: application/json", "Content-Length: 2")
    assert wire.send(head + b"{}", b"GET /v1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") == b""


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
class TestUpgrade:
    def test_a_request_without_a_body_is_answered_as_a_plain_one(self, wire: Wire, upgrade: str) -> None:
        wanted = wire.head("GET /healthz HTTP/1.1", f"Upgrade: {upgrade}", "Connection: upgrade")
        assert status_of(wire.send(wanted)) == 200

    def test_a_request_whose_body_the_parser_skips_is_refused(self, wire: Wire, upgrade: str) -> None:
        wanted = wire.head(
            "POST /v1/echo HTTP/1.1",
            "Content-Type: application/json",
            "Content-Length: 2",
            f"Upgrade: {upgrade}",
            "Connection: upgrade",
        )
        assert status_of(wire.send(wanted + b"{}")) == 400


def ask(wire: Wire, path: str, *headers: str, source: str = "127.0.0.1") -> bytes:
    """What comes back for one GET."""
    with wire.connect(source) as connection:
        with suppress(OSError):  # the server may have closed it already
            connection.sendall(wire.head(f"GET {path} HTTP/1.1", "Connection: close", *headers))
        return rest_of(connection)


class TestConnections:
    def test_a_peer_has_so_many_and_a_probe_is_answered_beyond(self, state: ServerState) -> None:
        with serving(state, WireLimits(per_peer=4), TESTED) as port, ExitStack() as opened:
            wire = Wire(port)
            for _ in range(4):
                opened.enter_context(wire.connect())
            eventually(lambda: status_of(ask(wire, "/v1")) == 429)
            assert status_of(ask(wire, "/healthz")) == 200
            assert status_of(ask(wire, "/v1", source="127.0.0.2")) == 200

    def test_all_peers_together_have_so_many_and_a_probe_is_answered_beyond(self, state: ServerState) -> None:
        limits = WireLimits(connections=8, reserve=2)
        with serving(state, limits, TESTED) as port, ExitStack() as opened:
            wire = Wire(port)
            for n in range(6):
                opened.enter_context(wire.connect(f"127.0.0.{n + 1}"))
            eventually(lambda: status_of(ask(wire, "/v1")) == 429)
            assert status_of(ask(wire, "/readyz")) == 200
            full = [opened.enter_context(wire.connect()) for _ in range(2)]
            assert status_of(ask(wire, "/readyz")) == 200
            assert rest_of(full[0]) == b""  # it is the oldest of the reserve

    def test_a_flood_from_many_addresses_keeps_no_probe_out(self, state: ServerState) -> None:
        """Each address has fewer than it may have; together they have more than the server admits with its reserve."""
        limits = WireLimits(connections=200, reserve=8, probe_time=10.0)
        with serving(state, limits, TESTED) as port, ExitStack() as opened:
            wire = Wire(port)
            for n in range(300):
                opened.enter_context(wire.connect(f"127.0.1.{n % 40 + 1}"))
            for path, status in (("/healthz", 200), ("/readyz", 200), ("/v1", 429)):
                assert status_of(ask(wire, path)) == status

    def test_one_address_fills_the_reserve_for_itself_only(self, state: ServerState) -> None:
        limits = WireLimits(per_peer=1, reserve=2, probe_time=10.0)
        with serving(state, limits, TESTED) as port, ExitStack() as opened:
            wire = Wire(port)
            for _ in range(2):
                opened.enter_context(wire.connect("127.0.0.2"))
            waits = opened.enter_context(wire.connect("127.0.0.2"))
            for _ in range(20):
                opened.enter_context(wire.connect("127.0.0.3"))
            waits.sendall(wire.head("GET /healthz HTTP/1.1"))
            assert status_of(rest_of(waits)) == 200

    def test_a_connection_that_ends_makes_room(self, state: ServerState) -> None:
        with serving(state, WireLimits(per_peer=1), TESTED) as port:
            wire = Wire(port)
            with wire.connect():
                eventually(lambda: status_of(ask(wire, "/v1")) == 429)
            eventually(lambda: status_of(ask(wire, "/v1")) == 200)

    def test_the_clients_of_a_trusted_proxy_are_counted_one_by_one(self, state: ServerState) -> None:
        with self.full_client(state, "10.0.0.1, 192.0.2.1") as wire:
            eventually(lambda: self.ask_through(wire, "192.0.2.1") == 429)
            assert self.ask_through(wire, "192.0.2.2") == 200

    def test_a_client_of_a_proxy_has_all_addresses_of_its_ipv6_network(self, state: ServerState) -> None:
        with self.full_client(state, "2001:db8::1") as wire:
            eventually(lambda: self.ask_through(wire, "2001:db8::2") == 429)
            assert self.ask_through(wire, "2001:db8:0:1::2") == 200

    def test_a_refused_client_of_a_proxy_gets_an_answer_as_all_others(self, state: ServerState) -> None:
        with self.full_client(state, "192.0.2.1") as wire:
            eventually(lambda: self.ask_through(wire, "192.0.2.1") == 429)
            answer = ask(wire, "/v1", "X-Forwarded-For: 192.0.2.1", source="127.0.0.9").lower()
            for header in (b"queuectl-version: ", b"queuectl-request: ", b"retry-after: 1"):
                assert header in answer
            assert b'route="/v1",status="429"' in ask(wire, "/metrics", "Authorization: Bearer view")

    def test_a_probe_of_a_full_client_of_a_proxy_is_answered(self, state: ServerState) -> None:
        with self.full_client(state, "192.0.2.1") as wire:
            eventually(lambda: self.ask_through(wire, "192.0.2.1") == 429)
            for path in ("/healthz", "/readyz"):
                answer = ask(wire, path, "X-Forwarded-For: 192.0.2.1", source="127.0.0.9")
                assert status_of(answer) == 200

    @pytest.mark.parametrize("path", ["/v1/jobs/healthz", "/x/readyz", "/v1/healthz"])
    def test_only_the_paths_of_probes_are_in_the_reserve(self, state: ServerState, path: str) -> None:
        state.root = "/queue"
        with serving(state, WireLimits(per_peer=1), TESTED) as port:
            wire = Wire(port)
            with wire.connect():
                eventually(lambda: status_of(ask(wire, "/v1")) == 429)
                assert status_of(ask(wire, path)) == 429
                assert status_of(ask(wire, f"/queue{path}")) == 429
                for probe in ("/healthz", "/queue/healthz", "/queue/readyz?consumption=0"):
                    assert status_of(ask(wire, probe)) == 200

    @contextmanager
    def full_client(self, state: ServerState, client: str) -> Iterator[Wire]:
        """A server behind a proxy whose client may run one request, and runs one."""
        HOLD.clear()
        with running(state, WireLimits(per_peer=1), TESTED, trusted=["127.0.0.9"]) as server:
            wire = Wire(server.port)
            held = ("POST /v1/held HTTP/1.1", "Content-Type: application/json", "Content-Length: 2")
            with wire.connect("127.0.0.9") as first:
                first.sendall(wire.head(*held, f"X-Forwarded-For: {client}") + b"{}")
                try:
                    yield wire
                finally:
                    HOLD.set()

    def ask_through(self, wire: Wire, client: str) -> int:
        """The status of a request that a proxy passes on for this client."""
        return status_of(ask(wire, "/v1", f"X-Forwarded-For: {client}", source="127.0.0.9"))


def crowd(state: ServerState, addresses: int, each: int) -> None:
    """Many connections with half a head, while a client of another address is served."""
    with serving(state, WireLimits(), TESTED) as port, ExitStack() as opened:
        wire = Wire(port)
        for n in range(addresses):
            for _ in range(each):
                slow = opened.enter_context(wire.connect(f"127.0.1.{n + 1}"))
                slow.sendall(b"GET /v1 HTTP/1.1\r\nX: ")
        client = Client(port, "admin")
        for _ in range(50):
            watch = Stopwatch()
            assert client("GET", "/v1/status").status == 200
            watch.check(2.0)


def test_slow_connections_delay_nobody(state: ServerState) -> None:
    crowd(state, 2, 50)


@pytest.mark.proof
def test_five_hundred_slow_connections_delay_nobody(state: ServerState) -> None:
    crowd(state, 10, 50)


@pytest.fixture
def fuzzed(state: ServerState) -> Iterator[Callable[[bytes], bytes]]:
    """Sends bytes on a connection of their own; what comes back."""
    with serving(state, WireLimits(head_time=0.05, body_time=0.05, linger=0.01), TESTED) as port:
        wire = Wire(port)

        def send(data: bytes) -> bytes:
            return wire.send(data.replace(b"PORT", str(port).encode()))

        yield send


FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HEAD = b"Host: 127.0.0.1:PORT\r\nAuthorization: Bearer admin\r\nConnection: close\r\n"


def answered(reply: bytes) -> None:
    """A reply of ours that is no error of the server, or none."""
    assert status_of(reply) < 500, reply
    assert b"Traceback" not in reply


@FUZZ
@given(path=some.binary(max_size=40))
def test_any_bytes_as_a_path(fuzzed: Callable[[bytes], bytes], path: bytes) -> None:
    answered(fuzzed(b"GET /v1/jobs/" + quote_from_bytes(path).encode() + b" HTTP/1.1\r\n" + HEAD + b"\r\n"))
    answered(fuzzed(b"GET /" + path + b" HTTP/1.1\r\n" + HEAD + b"\r\n"))


@FUZZ
@given(
    name=some.sampled_from(["state", "queue", "cursor", "limit", "sort", "tag", "x"]),
    value=some.binary(max_size=40),
)
def test_any_bytes_in_a_query(fuzzed: Callable[[bytes], bytes], name: str, value: bytes) -> None:
    quoted = f"{name}={quote_from_bytes(value)}".encode()
    answered(fuzzed(b"GET /v1/jobs?" + quoted + b" HTTP/1.1\r\n" + HEAD + b"\r\n"))
    answered(fuzzed(b"GET /v1/jobs?" + value + b" HTTP/1.1\r\n" + HEAD + b"\r\n"))


@FUZZ
@given(
    body=some.one_of(
        some.binary(max_size=200), some.text(alphabet='{}[]",:0eE-\\utn', max_size=60).map(str.encode)
    )
)
def test_any_bytes_as_a_body(fuzzed: Callable[[bytes], bytes], body: bytes) -> None:
    head = b"POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD
    answered(fuzzed(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body))


@FUZZ
@given(data=some.binary(max_size=100))
def test_any_bytes_at_all(fuzzed: Callable[[bytes], bytes], data: bytes) -> None:
    answered(fuzzed(data))


@FUZZ
@given(
    name=some.sampled_from(
        ["Authorization", "If-None-Match", "Accept", "X-Forwarded-For", "Last-Event-ID", "Host"]
    ),
    value=some.binary(max_size=40),
)
def test_any_bytes_in_a_header(fuzzed: Callable[[bytes], bytes], name: str, value: bytes) -> None:
    clean = value.replace(b"\r", b"").replace(b"\n", b"")
    answered(
        fuzzed(
            b"GET /v1/status HTTP/1.1\r\n"
            + HEAD.replace(name.encode(), b"X")
            + name.encode()
            + b": "
            + clean
            + b"\r\n\r\n"
        )
    )
