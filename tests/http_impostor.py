"""A server that answers each request with the next prepared answer and records the requests."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress


class Impostor:
    """Listens on a port of this machine. Each answer is sent to one request; the last one to all further requests."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                return
            with peer:
                self.requests.append(_request(peer))
                self._answer(peer, self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])

    def _answer(self, peer: socket.socket, answer: bytes) -> None:
        peer.sendall(answer)


def _request(peer: socket.socket) -> bytes:
    """The head of a request, and its body if the head contains the length."""
    data = b""
    while b"\r\n\r\n" not in data and (more := peer.recv(65536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    while lengths and len(body) < int(lengths[0]) and (more := peer.recv(65536)):
        body += more
    return head + b"\r\n\r\n" + body


class Flood(Impostor):
    """Sends `piece` again and again after its answer, for as long as its client reads. `sent`: bytes of them."""

    def __init__(self, answer: bytes, piece: bytes) -> None:
        self.sent, self._piece = 0, piece
        self._peer: socket.socket | None = None
        super().__init__([answer])

    def close(self) -> None:
        if self._peer is not None:
            with suppress(OSError):  # it is closed already
                self._peer.shutdown(socket.SHUT_RDWR)
        super().close()

    def has_stopped(self) -> bool:
        """Whether nothing was sent for a quarter of a second, because the client does not read."""
        before = self.sent
        time.sleep(0.25)
        return 0 < self.sent == before

    def _answer(self, peer: socket.socket, answer: bytes) -> None:
        self._peer = peer
        peer.sendall(answer)
        with suppress(OSError):  # the client is gone, or this server is closed
            while True:
                self.sent += peer.send(self._piece[self.sent % len(self._piece) :])


class Holding(Impostor):
    """Holds each request before its answer, as a server does whose client waits for a job. `hold` lets time pass."""

    def __init__(self, answers: Sequence[bytes], hold: Callable[[], object]) -> None:
        self._hold = hold
        super().__init__(answers)

    def _answer(self, peer: socket.socket, answer: bytes) -> None:
        self._hold()
        super()._answer(peer, answer)


@contextmanager
def holding(hold: Callable[[], object], *answers: bytes) -> Iterator[Holding]:
    """A server that holds each request while the block runs."""
    server = Holding(answers, hold)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def flooding(answer: bytes, piece: bytes) -> Iterator[Flood]:
    """A server that sends without end while the block runs."""
    flood = Flood(answer, piece)
    try:
        yield flood
    finally:
        flood.close()


@contextmanager
def answering(*answers: bytes) -> Iterator[Impostor]:
    """A server with these answers while the block runs."""
    impostor = Impostor(answers)
    try:
        yield impostor
    finally:
        impostor.close()


def reply(status: str, body: bytes, **headers: str) -> bytes:
    """The bytes of an answer."""
    named = {"Content_Length": str(len(body)), "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body
