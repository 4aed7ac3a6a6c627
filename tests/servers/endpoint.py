"""The address of a server."""

import random
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode


class Endpoint:
    """An address with a user who may do everything there."""

    scheme = "postgresql"

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self.host = host
        self.port = port
        self.user = user
        self.password = password

    def url(
        self,
        database: str = "postgres",
        *,
        user: str | None = None,
        password: str | None = None,
        host: str | None = None,
        port: int | None = None,
        **params: str | int,
    ) -> str:
        """The URL of a database here; what is given replaces our own. A directory as `host` means the socket in it."""
        login = (user or self.user, password or self.password)
        place = (host or self.host, port or self.port)
        return url_of(self.scheme, login, [place], database, params)


def url_of(
    scheme: str,
    login: tuple[str, str],
    places: Iterable[tuple[str, int]],
    database: str,
    params: Mapping[str, str | int],
) -> str:
    """A URL, with everything quoted that must be. `login` is a user and a password; either may be an empty word."""
    who = ":".join(quote(word, safe="") for word in login) + "@" if any(login) else ""
    where = ",".join(f"{quote(host, safe='')}:{port}" for host, port in places)
    query = f"?{urlencode(params, quote_via=quote)}" if params else ""
    return f"{scheme}://{who}{where}/{quote(database, safe='')}{query}"


def free_port() -> int:
    """A free port from the range that no system uses for outgoing connections.

    A server that is away for a moment must find its port free when it comes back.
    """
    while True:
        port = random.randrange(10_240, 32_768)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether no process listens on the port."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
