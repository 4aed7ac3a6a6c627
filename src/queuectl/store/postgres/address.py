"""The address in a `postgresql:` URL: libpq's options, and two options of queuectl.

    schema  the PostgreSQL schema that holds the queue; default `queuectl`
    listen  `no`: poll, and never wait for notifications

All other options are libpq's (https://www.postgresql.org/docs/current/libpq-connect.html), including several hosts and
`sslmode`. Options that poolers document for other clients (`pgbouncer=true`) are ignored.
"""

import os
import re
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlencode

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict

from queuectl.errors import InvalidInput
from queuectl.store.driver.url import ENCODE, Options, UrlFormat, choice, unknown_option

DEFAULT_SCHEMA = "queuectl"
_URL = UrlFormat("postgresql://user:password@host:5432/database")
_FOR_OTHERS = frozenset(("pgbouncer", "connection_limit", "pool_timeout", "supa"))
_OURS = {"schema": DEFAULT_SCHEMA, "listen": "auto"}
_SCHEMA = re.compile(r"(?!pg_)[A-Za-z_][A-Za-z0-9_]{0,49}", re.ASCII)
_IDENTITY = (
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("service", "PGSERVICE"),
)
"""The options that identify the database, each with the variable that libpq reads if the URL lacks the option. Without
a name, the database has the name of the user."""


class Address(Struct, frozen=True):
    """The parsed URL of a queue. `shown` contains no password; `parts` is for libpq and may contain one."""

    shown: str
    schema: str
    listens: bool
    parts: dict[str, Any]


def parse(url: str) -> Address:
    """The address in a URL. Raises InvalidInput, which never contains the password."""
    split = _URL.split(url)
    _URL.check(url, split)
    pairs = _URL.options(split.query)
    ours = _OURS | {name: value for name, value in pairs if name in _OURS}
    if not _SCHEMA.fullmatch(ours["schema"]):
        raise InvalidInput(
            f"{ours['schema']!r} cannot be the name of a schema",
            "use letters, digits and _, at most 50, not a digit first, and not pg_ first",
        )
    choice("listen", ours["listen"], ("auto", "no"))
    parts = _parts(split, [pair for pair in pairs if pair[0] not in {*_OURS, *_FOR_OTHERS}])
    return Address(_shown(split, parts, ours["schema"]), ours["schema"], ours["listen"] == "auto", parts)


def identity(url: str) -> str:
    """A text that is equal for all URLs of one queue, independent of the user and the options."""
    address = parse(url)
    found = {
        name: str(address.parts.get(name) or os.environ.get(variable, "")) for name, variable in _IDENTITY
    }
    found["dbname"] = found["dbname"] or found["user"]
    return "|".join([*(value for name, value in found.items() if name != "user"), address.schema])


def _parts(split: SplitResult, query: Options) -> dict[str, Any]:
    """The options as libpq parses them. An error of libpq is replaced, because it may contain the password."""
    words = urlencode(query, quote_via=quote)
    try:
        parts = conninfo_to_dict(f"postgresql://{split.netloc}{split.path}{'?' if words else ''}{words}")
    except psycopg.Error as error:
        if not str(error).strip().startswith("invalid URI query parameter"):
            raise _URL.refusal(ENCODE) from None
        known = [option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()]
        unknown = next((name for name, _ in query if name not in known), "")
        raise unknown_option(unknown, known, secret="@" in unquote(split.query)) from None
    for port in str(parts.get("port", "")).split(","):
        if port:
            _URL.port(port)
    return parts


def _shown(split: SplitResult, parts: dict[str, Any], schema: str) -> str:
    user = f"{parts['user']}@" if parts.get("user") else ""
    host = split.netloc.rpartition("@")[2] or str(parts.get("host", ""))
    own = "" if schema == DEFAULT_SCHEMA else f"?schema={schema}"
    return f"postgresql://{user}{host}/{parts.get('dbname', '')}{own}"
