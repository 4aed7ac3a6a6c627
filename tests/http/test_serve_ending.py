"""How a server ends: what happens to streams, to requests that run, and to clients that do not read."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from starlette.responses import Response, StreamingResponse

from facts import Stopwatch, eventually
from http_server import running
from queuectl.http.call import Call, Reply
from queuectl.http.server_state import THREADS, Limits, ServerState
from queuectl.http.table import NoBody, Route

HOLD, ENTERED = threading.Event(), threading.Event()


async def stream(call: Call) -> Response:
    """A stream without events, which says goodbye when the server ends."""

    async def parts() -> AsyncIterator[str]:
        yield ": queuectl\n\n"
        await call.server.ending.wait()
        yield "retry: 1000\nevent: bye\ndata:\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def flood(_call: Call) -> Response:
    """A stream that sends without an end."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(parts())


def held(_call: Call) -> Reply:
    """Answers when the test says."""
    ENTERED.set()
    HOLD.wait(10)
    return Reply({"done": True})


def route(method: str, path: str, handler: object, **more: object) -> Route:
    return Route(method=method, path=path, scope="enqueue", summary="", handler=handler, answers={}, **more)  # type: ignore[arg-type]


ROUTES = (
    route("GET", "/v1/stream", stream),
    route("GET", "/v1/flood", flood),
    route("GET", "/v1/held", held),
    route("POST", "/v1/held", held, body=NoBody),
)


class Connection:
    """A raw connection that has sent one request."""

    def __init__(self, port: int, first: str, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
        self.socket.sendall(
            f"{first} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer admin\r\n\r\n".encode()
        )

    def read_until(self, wanted: bytes) -> bytes:
        found = b""
        while wanted not in found:
            part = self.socket.recv(65536)
            assert part, found
            found += part
        return found

    def rest(self) -> bytes:
        found = b""
        while part := self.socket.recv(65536):
            found += part
        return found

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    HOLD.clear()
    ENTERED.clear()


def test_a_hundred_idle_streams_say_goodbye_and_the_server_ends_at_once(state: ServerState) -> None:
    with ExitStack() as opened:
        with running(state, routes=ROUTES) as server:
            streams = [
                opened.enter_context(Connection(server.port, "GET /v1/stream", f"127.0.0.{n % 4 + 1}"))
                for n in range(100)
            ]
            for each in streams:
                each.read_until(b": queuectl")
            watch = Stopwatch()
        watch.check(1.0)
        assert all(b"event: bye" in each.rest() for each in streams)


def test_a_request_that_runs_gets_its_reply_and_no_new_connection_is_accepted(state: ServerState) -> None:
    with running(state, routes=ROUTES) as server, Connection(server.port, "GET /v1/held") as runs:
        assert ENTERED.wait(10)
        server.end()
        eventually(lambda: refused(server.port))
        HOLD.set()
        assert runs.rest().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("method", "status", "code"), [("GET", 503, b"store_unavailable"), ("POST", 504, b"unknown")]
)
class TestCutShort:
    """A request that is ended has a reply: a change is unknown, and may be repeated."""

    def test_by_the_second_signal(self, state: ServerState, method: str, status: int, code: bytes) -> None:
        with running(state, routes=ROUTES) as server, Connection(server.port, f"{method} /v1/held") as runs:
            assert ENTERED.wait(10)
            server.end()
            server.end()
            self.check(runs.rest(), status, code)
            HOLD.set()

    def test_by_the_end_of_the_grace(self, state: ServerState, method: str, status: int, code: bytes) -> None:
        with (
            running(state, routes=ROUTES, grace=0.2) as server,
            Connection(server.port, f"{method} /v1/held") as runs,
        ):
            assert ENTERED.wait(10)
            server.end()
            self.check(runs.rest(), status, code)
            HOLD.set()

    def check(self, reply: bytes, status: int, code: bytes) -> None:
        assert reply.startswith(f"HTTP/1.1 {status}".encode())
        assert b'"code":"' + code in reply


@pytest.mark.parametrize("sent", [b"", b"GET /v1"])
def test_a_connection_without_a_whole_request_does_not_delay_the_end(state: ServerState, sent: bytes) -> None:
    with running(state, routes=ROUTES) as server:
        idle = socket.create_connection(("127.0.0.1", server.port), 10)
        idle.sendall(sent)
        answered = Connection(server.port, "GET /v1/stream")  # it is accepted after the idle one
        answered.read_until(b": queuectl")
        watch = Stopwatch()
    watch.check(1.0)
    idle.close()
    answered.socket.close()


def test_a_client_that_does_not_read_is_cut_off_at_the_end_of_the_grace(state: ServerState) -> None:
    with (
        running(state, routes=ROUTES, grace=0.2) as server,
        Connection(server.port, "GET /v1/flood") as stuck,
    ):
        stuck.read_until(b"xxxx")
        watch = Stopwatch()
        server.end()
    watch.check(5.0)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the server closed its socket just now
        return False
    return False


def test_a_request_that_waits_for_the_store_too_long_is_answered(state: ServerState) -> None:
    """Also while all threads of the pool wait: a token cannot be looked up then."""
    state.limits = Limits(timeout=0.2)
    with running(state, routes=ROUTES) as server:
        waiting = [Connection(server.port, "GET /v1/held") for _ in range(THREADS + 1)]
        for each in waiting:
            assert each.read_until(b"}").startswith(b"HTTP/1.1 503")
            each.socket.close()
        HOLD.set()
