"""A receiver of webhooks, and a proxy, on a port of its own: remembers each request, and answers as told."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

HANG_UP, SILENCE, DRIP = 0, -1, -2
"""Instead of a status: close the connection without an answer; until the end of the test answer nothing, or byte by
byte without an end."""


class Received(NamedTuple):
    """One request. The names of headers are in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers each request with the next of `answers` (a status, and headers); without one with 204."""

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.requests: list[Received] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.ending = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/hook?a=1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): text for name, text in self.headers.items()}
                receiver.requests.append(Received(self.path, headers, self.rfile.read(length)))
                status, more = receiver.answers.pop(0) if receiver.answers else (204, {})
                if status == SILENCE:
                    receiver.ending.wait(60)
                if status == DRIP:
                    with suppress(OSError):  # the client has hung up
                        while not receiver.ending.wait(0.05):
                            self.wfile.write(b"H")
                if status <= 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, text in more.items():
                    self.send_header(name, text)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    @contextmanager
    def serving(self) -> Iterator["Receiver"]:
        """Receive requests during the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.ending.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class MailSink:
    """A mail server on a port of its own that keeps each message."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say(220)
                while line := self.rfile.readline().decode().strip().upper():
                    if line == "DATA":
                        self._say(354)
                        lines = iter(lambda: self.rfile.readline().decode().rstrip("\r\n"), ".")
                        sink.messages.append("\n".join(lines))
                    self._say(221 if line == "QUIT" else 250)

            def _say(self, code: int) -> None:
                self.wfile.write(f"{code} sink\r\n".encode())

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    @contextmanager
    def serving(self) -> Iterator["MailSink"]:
        """Take messages during the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
