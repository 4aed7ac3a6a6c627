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
_DATABASE = re.compile(r"[0-9]{1,9}")
_UNFIT = re.compile(r"[\s\x00-\x1f]|%(?![0-9A-Fa-f]{2})|%00")
_KNOWN = {"name": None, "listen": ("auto", "no"), "durability": ("power-safe", "fast"), "archive": None}
_ARCHIVES = ("mongodb://", "mongodb+srv://")
_PLAIN_ARCHIVE = re.compile(
    r"(?P<scheme>mongodb(?:\+srv)?)://"
    r"(?:(?P<user>[^:@/?#]*)(?::[^@/?#]*)?@)?"
    r"(?P<hosts>[^@/?#]+)(?:/(?P<database>[^@/?#]*))?(?:\?[^@#]*)?"
)
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
    database, port = _database(split), _port(split)
    user, host = unquote(split.username or "") or None, unquote(split.hostname or "localhost")
    login, own = f"{quote(user, safe='')}@" if user else "", _own(options)
    return Address(
        shown=f"{split.scheme}://{login}{place(host, port)}/{database}{own}",
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
    """A text that is the same for URLs that differ in nothing but how one connects."""
    address = parse(url)
    return f"{address.host.lower()}:{address.port}/{address.database}|{address.name}"


def place(host: str, port: int) -> str:
    """`host:port`, the port left out where it is the usual one."""
    host = f"[{host}]" if ":" in host else host
    return host if port == DEFAULT_PORT else f"{host}:{port}"


def _own(options: dict[str, str]) -> str:
    """What is shown of the options: what tells two queues apart."""
    shown = [f"name={options['name']}"] if options.get("name", DEFAULT_NAME) != DEFAULT_NAME else []
    if "archive" in options:
        shown.append(f"archive={_shown_archive(options['archive'])}")
    return f"?{'&'.join(shown)}" if shown else ""


def _shown_archive(url: str) -> str:
    """The archive without its password: where that may be anywhere, nothing is shown. Loads no MongoDB library."""
    found = _PLAIN_ARCHIVE.fullmatch(url)
    if not found:
        return f"{url.partition(':')[0]}:…"
    user = f"{found['user']}@" if found["user"] else ""
    return f"{found['scheme']}://{user}{found['hosts']}/{found['database'] or DEFAULT_NAME}"


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The URL in its parts, where none can have been taken for another: a raw / or @ in a password is found here."""
    try:
        split = urlsplit(url)
        pairs = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    except ValueError:
        raise _refusal("a character in it has to be written as %XX") from None
    for wrong, why in (
        (not url.startswith(f"{split.scheme}://"), "// is missing after its scheme"),
        ("#" in url, "there is a # in it"),
        (split.netloc.count("@") > 1, "there is more than one @ in it"),
        ("@" in split.path, "there is a / before its @"),
        ("@" in split.query and not split.path, "there is a ? before its @, or no / before its ?"),
        (_UNFIT.search(url), "a character in it has to be written as %XX"),
        ("%" in (split.hostname or "") and ":" not in (split.hostname or ""), "there is a % in its host"),
        (len({name for name, _ in pairs}) < len(pairs), "an option stands in it twice"),
    ):
        if wrong:
            raise _refusal(why)
    options = dict(pairs)
    for name, value in pairs:
        _check(name, value, secretive="archive" in options or "@" in unquote(split.query))
    return split, options


def _check(name: str, value: str, *, secretive: bool) -> None:
    """Refuse an option that is none. Its value is never repeated: it may be the archive's URL under a wrong name.

    Nor is its name, where there is an archive or an @: what we take for an option may be a part of a password.
    """
    if name not in _KNOWN:
        which = "an option" if secretive else f"the option {name!r}"
        raise InvalidInput(f"{which} in the store's URL is not known", _nearest(name))
    allowed = _KNOWN[name]
    if allowed and value not in allowed:
        raise InvalidInput(
            f"{name} in the store's URL is not understood", " or ".join(f"{name}={word}" for word in allowed)
        )
    if name == "name" and not _NAME.fullmatch(value):
        raise InvalidInput(
            "name in the store's URL is no name for a queue",
            "letters, digits, _, - and ., at most 63, the first a letter or a digit",
        )
    if name == "archive" and not value.startswith(_ARCHIVES):
        raise InvalidInput(
            "the archive in the store's URL is no MongoDB", f"it has to begin with {_ARCHIVES[0]}"
        )


def _nearest(name: str) -> str:
    import difflib  # only on the way to an error

    if name in ("db", "database"):
        return "the number of a database is the path: redis://host/3"
    near = difflib.get_close_matches(name, _KNOWN, n=1)
    return f"{near[0]}?" if near else f"known: {', '.join(_KNOWN)}"


def _database(split: SplitResult) -> int:
    text = split.path.removeprefix("/") or "0"
    if not _DATABASE.fullmatch(text):
        raise _refusal("its path is not the number of a database")
    return int(text)


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
