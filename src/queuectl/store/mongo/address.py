"""The address in a `mongodb:` URL: the driver's options, and one option of queuectl.

    listen  `no`: poll, and never follow the server's changes

The database of the URL holds the queue; default `queuectl`. All other options are MongoDB's
(https://www.mongodb.com/docs/manual/reference/connection-string/), except those that would weaken a guarantee: queuectl
decides how a write is acknowledged, which server answers a read, and how long a call may take.
"""

import re
from urllib.parse import SplitResult, quote, unquote, urlencode

from msgspec import Struct

from queuectl.errors import InvalidInput
from queuectl.store.driver.url import ENCODE, UNFIT, Options, UrlFormat, choice

DEFAULT_DATABASE = "queuectl"
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,38}", re.ASCII)
_DEFAULT_PORT = 27017
_FIXED = {
    "w": ("majority",),
    "journal": ("true",),
    "j": ("true",),
    "readpreference": ("primary",),
    "retrywrites": ("true",),
    "retryreads": ("true",),
}
"""Options that queuectl sets. The URL may contain them only with the same value."""
_SET_BY_US = frozenset(
    (
        "timeoutms", "sockettimeoutms", "connecttimeoutms", "serverselectiontimeoutms", "wtimeoutms", "wtimeout",
        "fsync", "readconcernlevel", "datetime_conversion", "unicode_decode_error_handler",
    )
)  # fmt: skip
_RESERVED = ("admin", "local", "config")
_PARTS = re.compile(r"(mongodb(?:\+srv)?)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?")
_BRACKETED = re.compile(r"\[[^\[\]]+\]")
_URL = UrlFormat("mongodb://user:password@host:27017/database")


class Address(Struct, frozen=True):
    """The parsed URL of a queue. `shown` contains no password; `url` is for the driver and may contain one.

    `source` is the database that knows the user (authSource).
    """

    shown: str
    url: str
    hosts: str
    database: str
    user: str
    source: str
    listens: bool


def parse(url: str) -> Address:
    """The address in a URL. Raises InvalidInput, which never contains the password."""
    split, pairs = _split(url)
    named = unquote(split.path.removeprefix("/"))
    database = _database(named or DEFAULT_DATABASE)
    options = {name.lower(): value for name, value in pairs}
    listen = options.get("listen", "auto").lower()
    choice("listen", listen, ("auto", "no"))
    _refuse_weaker(pairs)
    login, _, hosts = split.netloc.rpartition("@")
    hosts = ",".join(_host(host, srv="+srv" in split.scheme) for host in hosts.split(","))
    user = unquote(login.partition(":")[0])
    return Address(
        shown=f"{split.scheme}://{f'{quote(user)}@' if user else ''}{hosts}/{database}",
        url=_for_driver(split, pairs),
        hosts=hosts,
        database=database,
        user=user,
        source=options.get("authsource") or named or "admin",
        listens=listen == "auto",
    )


def identity(url: str) -> str:
    """A text that is equal for all URLs of one queue, independent of the user and the options."""
    address = parse(url)
    return "|".join([*sorted(address.hosts.lower().split(",")), address.database])


def _split(url: str) -> tuple[SplitResult, Options]:
    """The parts of the URL. `urlsplit` is not used, because it supports only one host."""
    found = _PARTS.match(url)
    if not found:
        raise _URL.refusal("// is missing after the scheme")
    scheme, netloc, path, query = (part or "" for part in found.groups())
    split = SplitResult(scheme, netloc, path, query.removeprefix("?"), "")
    login, _, hosts = netloc.rpartition("@")
    _URL.check(url, split)
    _URL.require(
        [
            ("@" not in query, "it contains a ? before the @"),
            (hosts, "it names no host"),
            (login.count(":") < 2, "it contains more than one : before the @"),
            ("@" not in netloc or not netloc.startswith((":", "@")), "it names no user before the @"),
            (not UNFIT.search(url), ENCODE),
        ]
    )
    pairs = _URL.options(split.query)
    _URL.require([(len({name.lower() for name, _ in pairs}) == len(pairs), "an option is given twice")])
    return split, pairs


def _host(text: str, *, srv: bool) -> str:
    """One `host:port`. The default port is omitted."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host = host if colon else text
    _URL.require(
        [
            (not colon or not srv, "mongodb+srv takes no port"),
            (not colon or _URL.port(port), ""),
            (host, "it names no host"),
            (
                _BRACKETED.fullmatch(host) or not any(c in host for c in ":[]"),
                "an address that contains : must stand in brackets: [::1]",
            ),
        ]
    )
    return host if not colon or int(port) == _DEFAULT_PORT else f"{host}:{port}"


def _database(name: str) -> str:
    if not _DATABASE.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be the name of the queue's database", "use letters, digits, _ and -, at most 38"
        )
    if name.lower() in _RESERVED:
        raise InvalidInput(
            f"{name!r} is MongoDB's own database and cannot hold a queue",
            f"name another database; if {name} knows the user: mongodb://…/jobs?authSource={name}",
        )
    return name


def _refuse_weaker(pairs: Options) -> None:
    for name, value in pairs:
        allowed = _FIXED.get(name.lower())
        if allowed and value.lower() not in allowed:
            raise InvalidInput(
                f"{name}={value} in the store's URL would weaken queuectl's guarantees",
                f"leave it out: queuectl always uses {name}={allowed[0]}",
            )
        if name.lower() in _SET_BY_US:
            raise InvalidInput(
                f"{name} in the store's URL cannot be set",
                "leave it out: queuectl sets it for each call",
            )


def _for_driver(split: SplitResult, pairs: Options) -> str:
    """The URL without our option and without fixed options: the driver does not accept every spelling of them."""
    kept = [pair for pair in pairs if pair[0].lower() not in ("listen", *_FIXED)]
    query = urlencode(kept, quote_via=quote)
    return f"{split.scheme}://{split.netloc}/{split.path.removeprefix('/')}{'?' if query else ''}{query}"
