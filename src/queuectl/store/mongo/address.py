"""What a `mongodb:` URL says: the driver's own words, and one of ours.

    listen  `no`: never follow what happens, only poll

The database of the URL holds the queue; `queuectl` unless given. Everything else is MongoDB's
(https://www.mongodb.com/docs/manual/reference/connection-string/), but for what would weaken a promise: how a write is
acknowledged, who answers a question, and how long it may take is decided here.
"""

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

from msgspec import Struct

from queuectl.errors import InvalidInput

DEFAULT_DATABASE = "queuectl"
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,38}", re.ASCII)
_DEFAULT_PORT = 27017
_HIGHEST_PORT = 65535
_FIXED = {
    "w": ("majority",),
    "journal": ("true",),
    "j": ("true",),
    "readpreference": ("primary",),
    "retrywrites": ("true",),
    "retryreads": ("true",),
}
"""Options that may only say what is so anyway."""
_NOT_YOURS = frozenset(
    (
        "timeoutms", "sockettimeoutms", "connecttimeoutms", "serverselectiontimeoutms", "wtimeoutms", "wtimeout",
        "fsync", "readconcernlevel", "datetime_conversion", "unicode_decode_error_handler",
    )
)  # fmt: skip
_RESERVED = ("admin", "local", "config")
_PARTS = re.compile(r"(mongodb(?:\+srv)?)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?")
_UNFIT = re.compile(r"[\s\x00-\x1f]|%(?![0-9A-Fa-f]{2})|%00")
_BRACKETED = re.compile(r"\[[^\[\]]+\]")
_HINT = "mongodb://user:password@host:27017/database; in a password, # is written %23, @ %40, / %2F, % %25"


class Address(Struct, frozen=True):
    """Where the queue is. `shown` carries no password; `url` is for the driver, and does. `source` knows the user."""

    shown: str
    url: str
    hosts: str
    database: str
    user: str
    source: str
    listens: bool


def parse(url: str) -> Address:
    """The address that a URL names. Raises InvalidInput with the password left out."""
    split, pairs = _split(url)
    named = unquote(split.path.removeprefix("/"))
    database = _database(named or DEFAULT_DATABASE)
    options = {name.lower(): value for name, value in pairs}
    listen = options.get("listen", "auto").lower()
    if listen not in ("auto", "no"):
        raise InvalidInput(
            f"listen={listen} in the store's URL is not understood", "listen=no, or leave it out"
        )
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
    """A text that is the same for URLs that differ in nothing but how one connects."""
    address = parse(url)
    return "|".join([*sorted(address.hosts.lower().split(",")), address.database])


def _split(url: str) -> tuple[SplitResult, list[tuple[str, str]]]:
    """The URL in its parts, where none can have been taken for another: a raw / or @ in a password is found here."""
    found = _PARTS.match(url)
    if not found:
        raise _refusal("// is missing after its scheme")
    scheme, netloc, path, query = (part or "" for part in found.groups())
    split = SplitResult(scheme, netloc, path, query, "")  # not by `urlsplit`: that knows only one host
    for wrong, why in (
        ("#" in url, "there is a # in it"),
        (split.netloc.count("@") > 1, "there is more than one @ in it"),
        ("@" in split.path, "there is a / before its @"),
        ("@" in split.query, "there is a ? before its @"),
        (not split.netloc.rpartition("@")[2], "it names no host"),
        (split.netloc.rpartition("@")[0].count(":") > 1, "there is more than one : before its @"),
        ("@" in split.netloc and split.netloc.startswith((":", "@")), "it names no user before its @"),
        (_UNFIT.search(url), "a character in it has to be written as %XX"),
    ):
        if wrong:
            raise _refusal(why)
    return split, _pairs(split.query.removeprefix("?"))


def _pairs(query: str) -> list[tuple[str, str]]:
    """The options, each of which can be meant only once."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise _refusal("what stands after its ? is not name=value&name=value") from None
    if len({name.lower() for name, _ in pairs}) < len(pairs):
        raise _refusal("an option stands in it twice")
    return pairs


def _host(text: str, *, srv: bool) -> str:
    """One `host:port`, the port left out where it is the usual one."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    elif srv or not port.isdecimal() or not 0 < int(port) <= _HIGHEST_PORT:
        raise _refusal(
            "with mongodb+srv no port is given" if srv else f"its port is no number from 1 to {_HIGHEST_PORT}"
        )
    if not host:
        raise _refusal("it names no host")
    if not _BRACKETED.fullmatch(host) and any(c in host for c in ":[]"):
        raise _refusal("an address with : in it stands in brackets: [::1]")
    return host if not colon or int(port) == _DEFAULT_PORT else f"{host}:{port}"


def _database(name: str) -> str:
    if not _DATABASE.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is no name for the queue's database", "letters, digits, _ and -, at most 38"
        )
    if name.lower() in _RESERVED:
        raise InvalidInput(
            f"{name!r} is a database of MongoDB's own, and cannot be the queue's",
            f"name another; if it knows the user: mongodb://…/jobs?authSource={name}",
        )
    return name


def _refuse_weaker(pairs: list[tuple[str, str]]) -> None:
    for name, value in pairs:
        allowed = _FIXED.get(name.lower())
        if allowed and value.lower() not in allowed:
            raise InvalidInput(
                f"{name}={value} in the store's URL would weaken what queuectl promises",
                f"leave it out: {name}={allowed[0]} is always meant",
            )
        if name.lower() in _NOT_YOURS:
            raise InvalidInput(
                f"{name} in the store's URL is not for you to set",
                "leave it out: queuectl sets it for each call",
            )


def _for_driver(split: SplitResult, pairs: list[tuple[str, str]]) -> str:
    """Without our own word, and without what is so anyway: of that the driver does not know every name."""
    kept = [pair for pair in pairs if pair[0].lower() not in ("listen", *_FIXED)]
    query = urlencode(kept, quote_via=quote)
    return f"{split.scheme}://{split.netloc}/{split.path.removeprefix('/')}{'?' if query else ''}{query}"


def _refusal(why: str) -> InvalidInput:
    """Nothing of such a URL is repeated, nor is the cause kept: whatever it is, it may be a part of the password."""
    return InvalidInput(f"the URL of the store is not understood: {why}", _HINT)
