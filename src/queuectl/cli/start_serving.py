"""`worker start --serve`: opens the sockets of the server, and says how the holder starts it.

The sockets are opened here, so that a port that is taken is reported before the worker starts.
"""

import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from queuectl.cli.serve import require_extra
from queuectl.domain.quantity import parse_port
from queuectl.errors import CommandFailed, InvalidInput

if TYPE_CHECKING:
    from queuectl.cli.session import Session


class Serving(NamedTuple):
    """A host, and the sockets that listen there."""

    host: str
    port: int
    sockets: list[socket.socket]


def open_sockets(text: str) -> Serving:
    """Listen at HOST:PORT. Raises InvalidInput, MissingExtra, CommandFailed."""
    host, port = _host_and_port(text)
    require_extra()
    from queuectl.http import listen

    try:
        addresses = listen.resolve(host)
    except InvalidInput as error:
        raise InvalidInput(f"--serve: {host!r} is no address of this machine", _EXAMPLE) from error
    if not all(map(listen.is_loopback, addresses)):
        raise InvalidInput(
            f"--serve: {host} is reached from other machines, and this server has no encryption",
            "start queuectl serve beside the worker: it has --tls-cert, --public-url and --insecure-http",
        )
    try:
        opened = listen.open_all(host, addresses, port, None)
    except CommandFailed as error:
        raise CommandFailed(
            f"--serve: {error.message}", f"--serve {_joined(host, 0)} takes a free one"
        ) from error
    return Serving(host, opened.port, opened.tcp)


def server_of(session: "Session", serving: Serving, url: str) -> dict[str, Any]:
    """The server in the configuration of the holder. The URL of the store may contain a password."""
    given = [("--config", session.args.config), ("--durability", session.args.durability)]
    flags = [word for name, value in given if value for word in (name, value)]
    verbose = ["--verbose"] if session.args.verbose else []
    words = ["serve", "--quiet", *verbose, *flags, "--host", serving.host, "--port", str(serving.port)]
    return {
        "argv": [sys.executable, "-P", "-m", "queuectl", *words],
        "environment": {"QUEUECTL_STORE": url},
        "sockets": [each.detach() for each in serving.sockets],
    }


_EXAMPLE = "for example --serve 127.0.0.1:7733"


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets
    try:
        if host and colon:
            return host, parse_port(port)
    except InvalidInput:
        pass
    raise InvalidInput(f"--serve: {text!r} is not HOST:PORT", _EXAMPLE)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
