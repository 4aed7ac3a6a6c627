"""The address in a `redis:` URL. All options are options of queuectl:

    name        the name of the queue, the prefix of all its keys; default `queuectl`
    listen      `no`: poll, and never subscribe
    durability  `fast`: accept a server that may lose acknowledged jobs
    archive     the `mongodb:` URL of a database for ended jobs, its special characters written as %XX

`rediss:` is TLS. The path is the number of a database.
"""

import re
from urllib.parse import SplitResult, quote, unquote

from msgspec import Struct

from queuectl.errors import InvalidInput
from queuectl.store.driver.url import ENCODE, UNFIT, UrlFormat, choice, unknown_option

DEFAULT_NAME = "queuectl"
DEFAULT_PORT = 6379
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_DATABASE = re.compile(r"[0-9]{1,9}")
_KNOWN = {"name": None, "listen": ("auto", "no"), "durability": ("power-safe", "fast"), "archive": None}
_ARCHIVES = ("mongodb://", "mongodb+srv://")
_PLAIN_ARCHIVE = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?)://"
    r"(?:(?P<user>[^:@/?#]*)(?::[^@/?#]*)?@)?"
    r"(?P<hosts>[^@/?#]+)(?:/(?P<database>[^@/?#]*))?(?:\?[^@#]*)?"
)
_URL = UrlFormat("redis://user:password@host:6379/0")


class Address(Struct, frozen=True):
    """The parsed URL of a queue. `shown` contains no password."""

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
        """The prefix of all keys. In a cluster its braces (a hash tag) keep them in one slot."""
        return f"{{{self.name}}}"


def parse(url: str) -> Address:
    """The address in a URL. Raises InvalidInput, which never contains the password."""
    split, options = _split(url)
    database, port = _database(split), _port(split)
    user, host = unquote(split.username or "") or None, unquote(split.hostname or "localhost")
    login, own = f"{quote(user, safe='')}@" if user else "", _own(options)
    return Address(
        shown=f"{split.scheme}://{login}{host_and_port(host, port)}/{database}{own}",
        host=host,
        port=port,
        database=database,
        user=user,
        password=unquote(split.password) if split.password else None,
        tls=split.scheme == "rediss",
        name=options.get("name", DEFAULT_NAME),
        listens=options.get("listen") != "no",
        fast=options.get("durability") == "fast",
        archive=options.get("archive"),
    )


def identity(url: str) -> str:
    """A text that is equal for all URLs of one queue, independent of the user and the options."""
    address = parse(url)
    return f"{address.host.lower()}:{address.port}/{address.database}|{address.name}"


def host_and_port(host: str, port: int) -> str:
    """`host:port`. The default port is omitted."""
    host = f"[{host}]" if ":" in host else host
    return host if port == DEFAULT_PORT else f"{host}:{port}"


def _own(options: dict[str, str]) -> str:
    """The options to show: only options that distinguish two queues."""
    shown = [f"name={options['name']}"] if options.get("name", DEFAULT_NAME) != DEFAULT_NAME else []
    if "archive" in options:
        shown.append(f"archive={_shown_archive(options['archive'])}")
    return f"?{'&'.join(shown)}" if shown else ""


def _shown_archive(url: str) -> str:
    """The archive's URL without its password; `…` if the password cannot be located. Loads no MongoDB library."""
    found = _PLAIN_ARCHIVE.fullmatch(url)
    if not found:
        return f"{url.partition(':')[0]}:…"
    user = f"{found['user']}@" if found["user"] else ""
    return f"{found['scheme']}://{user}{found['hosts']}/{found['database'] or DEFAULT_NAME}"


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts of the URL and its options."""
    split = _URL.split(url)
    host = split.hostname or ""
    _URL.check(url, split)
    _URL.require([(not UNFIT.search(url), ENCODE), ("%" not in host or ":" in host, "its host contains a %")])
    pairs = _URL.options(split.query)
    _URL.require([(len({name for name, _ in pairs}) == len(pairs), "an option is given twice")])
    options = dict(pairs)
    secret = "archive" in options or "@" in unquote(split.query)
    for name, value in pairs:
        _check(name, value, secret=secret)
    return split, options


def _check(name: str, value: str, *, secret: bool) -> None:
    """Refuse an unknown option or value. The error repeats no value: it may be the archive's URL under a wrong name."""
    if name not in _KNOWN:
        fault = unknown_option(name, _KNOWN, secret=secret)
        if name in ("db", "database"):
            fault.hint = "the number of a database is the path: redis://host/3"
        raise fault
    if allowed := _KNOWN[name]:
        choice(name, value, allowed)
    if name == "name" and not _NAME.fullmatch(value):
        raise InvalidInput(
            "the name in the store's URL cannot be the name of a queue",
            "use letters, digits, _, - and ., at most 63, and begin with a letter or a digit",
        )
    if name == "archive" and not value.startswith(_ARCHIVES):
        raise InvalidInput(
            "the archive in the store's URL is not a MongoDB URL", f"it must begin with {_ARCHIVES[0]}"
        )


def _database(split: SplitResult) -> int:
    text = split.path.removeprefix("/") or "0"
    if not _DATABASE.fullmatch(text):
        raise _URL.refusal("the path must be the number of a database")
    return int(text)


def _port(split: SplitResult) -> int:
    try:
        port = DEFAULT_PORT if split.port is None else split.port
    except ValueError:  # the port is not a number, or too large
        port = 0
    return _URL.port(str(port))
