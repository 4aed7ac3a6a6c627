"""What a `postgresql:` URL says: libpq's own words, and two of ours.

    schema  the PostgreSQL schema that holds the queue; `queuectl` unless given
    listen  `no`: never wait for notifications, only poll

Everything else is libpq's (https://www.postgresql.org/docs/current/libpq-connect.html), several hosts and `sslmode`
included. What poolers' documentation adds for other clients (`pgbouncer=true`) is passed over.
"""

import os
import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict

from queuectl.errors import InvalidInput

DEFAULT_SCHEMA = "queuectl"
_FOR_OTHERS = frozenset(("pgbouncer", "connection_limit", "pool_timeout", "supa"))
_OURS = frozenset(("schema", "listen"))
_SCHEMA = re.compile(r"(?!pg_)[A-Za-z_][A-Za-z0-9_]{0,49}", re.ASCII)
_HIGHEST_PORT = 65535
_PLACE = (
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("service", "PGSERVICE"),
)
"""What says which database is meant, and the variables that say it where the URL does not. Without a name it is the
user's own."""


class Address(Struct, frozen=True):
    """Where the queue is. `shown` carries no password; `parts` is for libpq, and does."""

    shown: str
    schema: str
    listens: bool
    parts: dict[str, Any]


def parse(url: str) -> Address:
    """The address that a URL names. Raises InvalidInput with the password left out."""
    split, pairs = _split(url)
    ours = {name: value for name, value in pairs if name in _OURS}
    schema = ours.get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise InvalidInput(f"{schema!r} is no name for a schema", "letters, digits and _, at most 50")
    if (listen := ours.get("listen", "auto")) not in ("auto", "no"):
        raise InvalidInput(
            f"listen={listen} in the store's URL is not understood", "listen=no, or leave it out"
        )
    parts = _parts(split, [pair for pair in pairs if pair[0] not in _OURS | _FOR_OTHERS])
    return Address(_shown(split, parts, schema), schema, listen == "auto", parts)


def identity(url: str) -> str:
    """A text that is the same for URLs that differ in nothing but how one connects."""
    address = parse(url)
    found = {name: str(address.parts.get(name) or os.environ.get(variable, "")) for name, variable in _PLACE}
    found["dbname"] = found["dbname"] or found["user"]
    return "|".join([*(value for name, value in found.items() if name != "user"), address.schema])


def _split(url: str) -> tuple[SplitResult, list[tuple[str, str]]]:
    """The URL in its parts, where none can have been taken for another: a raw / or @ in a password is found here."""
    try:
        split = urlsplit(url)
        pairs = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    except ValueError:
        raise _refusal(_RAW) from None
    for wrong, why in (
        (not url.startswith(f"{split.scheme}://"), "// is missing after its scheme"),
        ("#" in url, "there is a # in it"),
        (split.netloc.count("@") > 1, "there is more than one @ in it"),
        ("@" in split.path, "there is a / before its @"),
        ("@" in split.query and not split.path, "there is a ? before its @"),
    ):
        if wrong:
            raise _refusal(why)
    return split, pairs


def _parts(split: SplitResult, query: list[tuple[str, str]]) -> dict[str, Any]:
    words = urlencode(query, quote_via=quote)
    try:
        parts = conninfo_to_dict(f"postgresql://{split.netloc}{split.path}{'?' if words else ''}{words}")
    except psycopg.Error as error:
        text = str(error).strip()
        raise _refusal(text if text.startswith("invalid URI query parameter") else _RAW) from None
    ports = [port for port in str(parts.get("port", "")).split(",") if port]
    if not all(port.isdecimal() and 0 < int(port) <= _HIGHEST_PORT for port in ports):
        raise _refusal(f"its port is no number from 1 to {_HIGHEST_PORT}")
    return parts


_RAW = "a character in it has to be written as %XX"


def _refusal(why: str) -> InvalidInput:
    """Nothing of such a URL is repeated, nor is the cause kept: whatever it is, it may be a part of the password."""
    return InvalidInput(
        f"the URL of the store is not understood: {why}",
        "postgresql://user:password@host:5432/database; in a password, # is written %23, @ %40, / %2F, % %25",
    )


def _shown(split: SplitResult, parts: dict[str, Any], schema: str) -> str:
    user = f"{parts['user']}@" if parts.get("user") else ""
    host = split.netloc.rpartition("@")[2] or str(parts.get("host", ""))
    own = "" if schema == DEFAULT_SCHEMA else f"?schema={schema}"
    return f"postgresql://{user}{host}/{parts.get('dbname', '')}{own}"
