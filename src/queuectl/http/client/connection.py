"""A connection to the server: sends requests and reads replies, and tells apart what a failure may have caused.

`http.client` is loaded only by commands that talk to a server, and `ssl` only for https.
"""

import errno
import os
import select
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NamedTuple

from queuectl import __version__
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.http.client.address import Address


class NotSent(Exception):
    """The server could not be reached: it got nothing of the request."""


class ReplyLost(Exception):
    """The request was sent, at least in part, and its reply did not come: it may have been carried out."""


class Silent(ReplyLost):
    """No byte of the reply came in time."""


class Request(NamedTuple):
    """One request. `timeout`: seconds without a byte after which the reply counts as lost."""

    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]
    timeout: float


class Reply(NamedTuple):
    """One reply, with the names of its headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """The connections to one server, each used by one thread at a time. A forked child opens its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[HTTPConnection] = []
        self._pid = os.getpid()
        self._closed = False

    def exchange(self, request: Request, connect_timeout: float, host: str | None = None) -> Reply:
        """Send a request and read its whole reply. Raises NotSent, ReplyLost, StoreUnusable, StoreUnavailable.

        `host`: connect to this host instead of the one of the address, which the request names all the same.
        """
        connection = self._take()
        if connection is None:
            connection = self.open(connect_timeout, host)
        is_reusable = False
        try:
            response = send(connection, request)
            body = response.read()
            is_reusable = not response.will_close
        except (OSError, HTTPException) as error:
            raise lost(error) from error
        finally:  # also after a Ctrl+C: then the rest of the reply is still to come
            if is_reusable and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
        return Reply(response.status, headers_of(response), body)

    def open(self, timeout: float, host: str | None = None) -> HTTPConnection:
        """A new connection. Raises NotSent, StoreUnusable, StoreUnavailable."""
        connection = _Connection(self._address, host or self._address.host, timeout)
        try:
            connection.connect()
        except socket.gaierror as error:
            connection.close()
            if error.errno == socket.EAI_NONAME:
                raise StoreUnavailable(
                    f"the host {self._address.host} is not known", "is the name of the host right?"
                ) from error
            raise NotSent(reason(error)) from error
        except OSError as error:
            connection.close()
            raise NotSent(reason(error)) from error
        return connection

    def close(self) -> None:
        """Close the connections that are not used now, and the others after their use."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> HTTPConnection | None:
        """A connection that is still open. A server that was replaced has closed those to it."""
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            connection = self._idle.pop()
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()
        return None


class _Connection(HTTPConnection):
    """A connection over TCP, TLS or a Unix socket. `host` is what it connects to."""

    def __init__(self, address: Address, host: str, timeout: float) -> None:
        super().__init__(address.host, address.port, timeout=timeout)
        self._address, self._to = address, host
        self.default_port = 443 if address.scheme == "https" else 80

    def connect(self) -> None:
        if self._address.socket is not None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._address.socket)
            return
        # A text would load the tables of internationalized names, even for an address.
        host = self._to.encode() if self._to.isascii() else self._to
        self.sock = socket.create_connection((host, self.port), self.timeout)  # type: ignore[arg-type]  # bytes are right
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._address.scheme == "https":
            self.sock = _encrypted(self.sock, self._address)


def _encrypted(plain: socket.socket, address: Address) -> socket.socket:
    """The connection with TLS. The certificate is always checked, with the roots of the system or SSL_CERT_FILE."""
    import ssl

    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise StoreUnusable(
            f"the certificate of {address.host} cannot be trusted: {error.verify_message}",
            "SSL_CERT_FILE names a file with the certificates of your own authority",
        ) from error
    except ssl.SSLError as error:
        plain.close()
        what = (error.reason or str(error)).replace("_", " ").lower()
        raise StoreUnusable(
            f"{address.host} does not speak TLS with us: {what}", "is it http:// instead?"
        ) from error


def send(connection: HTTPConnection, request: Request) -> HTTPResponse:
    """Send a request, and read the head of the reply. Raises ReplyLost."""
    headers = {"User-Agent": f"queuectl/{__version__}", "Accept-Encoding": "identity", **request.headers}
    try:
        connection.sock.settimeout(request.timeout)
        try:
            connection.request(request.method, request.path, request.body, headers)
        except OSError as error:
            # A server that refuses a long body answers and closes before it has read all.
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
        return connection.getresponse()
    except (OSError, HTTPException) as error:
        raise lost(error) from error


def lost(error: Exception) -> ReplyLost:
    """The error of a request whose reply did not come."""
    return Silent(str(error)) if isinstance(error, TimeoutError) else ReplyLost(reason(error))


def headers_of(response: HTTPResponse) -> dict[str, str]:
    """The headers of a reply, with their names in lower case."""
    return {name.lower(): value for name, value in response.getheaders()}


def reason(error: Exception) -> str:
    """What went wrong, in few words."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
