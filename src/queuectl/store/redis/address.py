"""What a `redis:` URL says.

    name        the queue's name, which begins all its keys; `queuectl` unless given
    listen      `no`: never subscribe, only poll
    durability  `fast`: accept a server that may lose what it has acknowledged
    archive     the `mongodb:` URL of a database for jobs that have ended, its special characters written as %XX

`rediss:` is TLS. The path is the number of a database.
"""

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from msgspec import Struct

from queuectl.errors import InvalidInput

DEFAULT_NAME = "queuectl"
DEFAULT_PORT = 6379
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_HIGHEST_PORT = 65535
_KNOWN = {"name": None, "listen": ("auto", "no"), "durability": ("power-safe", "fast"), "archive": None}
_HINT = "redis://user:password@host:6379/0; in a password, # is written %23, @ %40, / %2F, % %25"


class Address(Struct, frozen=True):
    """Where the queue is. `shown` carries no password."""

    shown: str
    host: str
    port: int
    database: int
    user: str | None
    password: str | None
    tls: bool
    name: str
    listens: bool
    fast: bool
    archive: str | None

    @property
    def tag(self) -> str:
        """What all keys begin with: in a cluster, what decides where they are."""
        return f"{{{self.name}}}"


def parse(url: str) -> Address:
    """The address that a URL names. Raises InvalidInput with the password left out."""
    split, options = _split(url)
    name = options.get("name", DEFAULT_NAME)
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name for a queue", "letters, digits, _, - and ., at most 63")
    database = split.path.removeprefix("/") or "0"
    if not database.isdecimal():
        raise _refusal("its path is not the number of a database")
    user = unquote(split.username or "") or None
    host, port = split.hostname or "localhost", _port(split)
    login, place = f"{quote(user)}@" if user else "", host if port == DEFAULT_PORT else f"{host}:{port}"
    own = "" if name == DEFAULT_NAME else f"?name={name}"
    return Address(
        shown=f"{split.scheme}://{login}{place}/{int(database)}{own}",
        host=host,
        port=port,
        database=int(database),
        user=user,
        password=unquote(split.password) if split.password else None,
        tls=split.scheme == "rediss",
        name=name,
        listens=options.get("listen") != "no",
        fast=options.get("durability") == "fast",
        archive=options.get("archive"),
    )


def identity(url: str) -> str:
    """A text that is the same for URLs that differ in nothing but how one connects."""
    address = parse(url)
    return f"{address.host.lower()}:{address.port}/{address.database}|{address.name}"


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The URL in its parts, where none can have been taken for another: a raw / or @ in a password is found here."""
    try:
        split = urlsplit(url)
        options = dict(parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query)))
    except ValueError:
        raise _refusal("a character in it has to be written as %XX") from None
    for wrong, why in (
        (not url.startswith(f"{split.scheme}://"), "// is missing after its scheme"),
        ("#" in url, "there is a # in it"),
        (split.netloc.count("@") > 1, "there is more than one @ in it"),
        ("@" in split.path, "there is a / before its @"),
        ("@" in split.query and not split.path, "there is a ? before its @"),
    ):
        if wrong:
            raise _refusal(why)
    for name, value in options.items():
        allowed = _KNOWN.get(name, ())
        if name not in _KNOWN or (allowed and value not in allowed):
            raise InvalidInput(
                f"{name}={value} in the store's URL is not understood", f"known: {', '.join(_KNOWN)}"
            )
    return split, options


def _port(split: SplitResult) -> int:
    try:
        port = DEFAULT_PORT if split.port is None else split.port
    except ValueError:
        port = 0
    if not 0 < port <= _HIGHEST_PORT:
        raise _refusal(f"its port is no number from 1 to {_HIGHEST_PORT}")
    return port


def _refusal(why: str) -> InvalidInput:
    """Nothing of such a URL is repeated, nor is the cause kept: whatever it is, it may be a part of the password."""
    return InvalidInput(f"the URL of the store is not understood: {why}", _HINT)
