"""The address of a server, from the URL that a person gives as the store."""

import os
from typing import NamedTuple

from queuectl.errors import InvalidInput
from queuectl.http.client import credentials

UNIX = "http+unix"


class Address(NamedTuple):
    """Where a server is.

    url     as it was given, without a slash at the end
    scheme  http, https or http+unix
    root    the path below which the server answers; empty for none
    socket  the path of the Unix socket; None for TCP
    """

    url: str
    scheme: str
    host: str
    port: int
    root: str = ""
    socket: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether the server runs on this host, so that its directories are those of this process."""
        return self.socket is not None or credentials.origin_of(self.url).is_here


def address_of(url: str) -> Address:
    """The address of a server. Raises InvalidInput, also for a URL with a user or a password."""
    given = url.rstrip("/")
    scheme, _, rest = given.partition("://")
    if "?" in rest or "#" in rest:
        raise InvalidInput("the URL of a server has no ? and no #", "for example https://host/queue")
    if scheme == UNIX:
        if not os.path.isabs(rest):
            raise InvalidInput(f"{url!r} names no socket", "write http+unix:///path/to/serve.sock")
        return Address(given, scheme, "localhost", 80, socket=rest)
    origin = credentials.origin_of(given)
    slash, path = rest.partition("/")[1:]
    return Address(given, origin.scheme, origin.host, origin.port, slash + path)
