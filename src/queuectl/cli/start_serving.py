"""`worker start --serve`: checks the options of the server, opens its sockets, and says how the holder starts it.

The sockets are opened here, so that a port that is taken is reported before the worker starts.
"""

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from queuectl.cli import server_options
from queuectl.cli.serve import require_extra
from queuectl.domain.quantity import parse_port
from queuectl.errors import CommandFailed, InvalidInput
from queuectl.service.queue import Queue

if TYPE_CHECKING:
    from argparse import Namespace

    from queuectl.cli.session import Session
    from queuectl.http.options import Options

EXAMPLE = "for example --serve 127.0.0.1:7733"


class Serving(NamedTuple):
    """A server that can be started."""

    options: "Options"
    addresses: list[str]
    given: server_options.Given


def checked(args: "Namespace") -> Serving | None:
    """The server that the options ask for; None without --serve. Raises InvalidInput, MissingExtra."""
    given = server_options.given(args, server_options.OF_WORKER.replace("-", "_"))
    if args.serve is None:
        if words := server_options.words(given):
            name = words[0].partition("=")[0].replace("--", f"--{server_options.OF_WORKER}")
            raise InvalidInput(f"{name} needs --serve HOST:PORT", EXAMPLE)
        return None
    host, port = _host_and_port(args.serve)
    with server_options.named_as_given():
        options = server_options.parsed(host, port, given)
        require_extra()
        from queuectl.http.options import check

        return Serving(options, check(options).addresses, given)


def check_address(serving: Serving, queue: Queue) -> None:
    """Raise InvalidInput for an address that other machines reach, without a token or encryption."""
    from queuectl.http.bind_rules import check_bind, has_token

    options = serving.options
    with server_options.named_as_given():
        check_bind(
            options.host or "",
            serving.addresses,
            has_token=has_token(queue),
            is_encrypted=options.is_encrypted,
        )


def started(session: "Session", serving: Serving, url: str) -> dict[str, Any]:
    """The server in the configuration of the holder, with open sockets. Raises CommandFailed.

    The URL of the store may contain a password, so it is in no argument.
    """
    from queuectl.http import listen

    options, given = serving.options, serving.given
    host = options.host or ""
    try:
        opened = listen.open_all(host, serving.addresses, options.port, None)
    except CommandFailed as error:
        free = f"[{host}]:0" if ":" in host else f"{host}:0"
        raise CommandFailed(f"--serve: {error.message}", f"--serve {free} takes a free one") from error
    own = [("--config", session.args.config), ("--durability", session.args.durability)]
    flags = [word for name, value in own if value for word in (name, value)]
    verbose = ["--verbose"] if session.args.verbose else []
    place = ["--host", host, "--port", str(opened.port)]
    words = ["serve", "--quiet", *verbose, *flags, *place, *server_options.words(given)]
    return {
        "argv": [sys.executable, "-P", "-m", "queuectl", *words],
        "environment": {"QUEUECTL_STORE": url},
        "sockets": [each.detach() for each in opened.tcp],
    }


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
    raise InvalidInput(f"--serve: {text!r} is not HOST:PORT", EXAMPLE)
