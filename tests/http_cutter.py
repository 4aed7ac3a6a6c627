"""A proxy between a client and a server that breaks one connection at a chosen byte of the request or reply, or answers
502 in place of the server.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, get_args

Moment = Literal[
    "before the request",
    "within the request",
    "after the request",
    "after the head of the reply",
    "502 instead of the reply",
]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 20\r\nConnection: close\r\n\r\n"
)
PAGE = b"<h1>Bad Gateway</h1>"


class Cutter:
    """Passes connections on. `cut` breaks one of them: the one with the next request that begins with some bytes.

    meanwhile  is called when the server has answered, and before a connection is broken
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._match, self._times = b"", 0
        self._moment: Moment = "after the request"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.cuts = 0
        self.meanwhile: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, match: bytes, moment: Moment, times: int = 1) -> None:
        """Break the connections of so many requests that begin like this."""
        self._match, self._moment, self._times = match, moment, times

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            while True:
                request = _message(client)
                moment = self._chosen(request)
                if moment == "before the request":
                    return
                if moment == "within the request":
                    server.sendall(request[: len(request) // 2])
                    return
                server.sendall(request)
                answer = _message(server)
                if moment is not None:
                    self.meanwhile()
                if moment == "after the request":
                    return
                if moment == "502 instead of the reply":
                    client.sendall(BAD_GATEWAY + PAGE)
                    return
                if moment is not None:
                    client.sendall(answer[: answer.index(b"\r\n\r\n") + 4])
                    return
                client.sendall(answer)

    def _chosen(self, request: bytes) -> Moment | None:
        """What happens to this request."""
        if self._times == 0 or not request.startswith(self._match):
            return None
        self._times -= 1
        self.cuts += 1
        return self._moment


def _message(peer: socket.socket) -> bytes:
    """One whole request or reply of a peer that states the length of its bodies, or sends them in chunks."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(peer)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    while lengths and len(body) < int(lengths[0]):
        body += _more(peer)
    while b"transfer-encoding: chunked" in head.lower() and not body.endswith(b"0\r\n\r\n"):
        body += _more(peer)
    return head + b"\r\n\r\n" + body


def _more(peer: socket.socket) -> bytes:
    if more := peer.recv(1 << 20):
        return more
    raise ConnectionError("the peer closed the connection")


@contextmanager
def cutting(target: int, port: int = 0) -> Iterator[Cutter]:
    """A cutter at a port (0: a free one) before the server at another one, while the block runs."""
    cutter = Cutter(target, port)
    try:
        yield cutter
    finally:
        cutter.close()
