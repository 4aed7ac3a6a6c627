"""The values of the header `Host` that a server answers.

A request with another value may come from a web page whose name leads to this address (DNS rebinding).
"""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from queuectl.errors import InvalidInput

DEFAULT_PORTS = {"http": 80, "https": 443}


def public_url(text: str) -> str:
    """The given URL without a slash at its end. Raises InvalidInput."""
    try:
        parts = urlsplit(text)
        usable = parts.hostname and parts.port != 0 and parts.scheme in DEFAULT_PORTS
    except ValueError:
        usable = None
    if not usable or parts.query or parts.fragment or parts.username or not text.isascii():
        raise InvalidInput(
            f"--public-url: {text!r} is not the URL of a server", "write https://ops.example.org/queue"
        )
    return text.rstrip("/")


def accepted(
    bound: Iterable[tuple[str, int]], scheme: str, allowed: Sequence[str], public: str, *, unix: bool
) -> Callable[[str], bool]:
    """Whether a `Host`, in lower case, names this server.

    `bound` are the names and ports of its TCP sockets. A Unix socket has no port, and its clients send `localhost`.
    """
    hosts = {name.lower() for name in allowed} | ({"localhost"} if unix else set())
    any_address = list[int]()
    for name, port in bound:
        names = {"127.0.0.1", "localhost", "::1", name.lower(), *(given.lower() for given in allowed)}
        hosts |= {each for given in names for each in _spellings(given, port, scheme)}
        any_address += [port] if name in ("0.0.0.0", "::") else []  # noqa: S104  compared, not bound
    if public:
        parts = urlsplit(public)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        hosts |= set(_spellings(parts.hostname or "", port, parts.scheme))
    return lambda host: host in hosts or any(_is_address(host, port) for port in any_address)


def _spellings(name: str, port: int, scheme: str) -> list[str]:
    shown = f"[{name}]" if ":" in name else name
    return [f"{shown}:{port}", *([shown] if DEFAULT_PORTS[scheme] == port else [])]


def _is_address(host: str, port: int) -> bool:
    """Whether a `Host` is a literal address. A server on all addresses answers to it: no DNS was asked for it."""
    name, _, number = host.rpartition(":")
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return number == str(port)
