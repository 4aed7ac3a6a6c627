"""Which store is meant: the words that stand for one, and variables that name a store and are not used."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from queuectl.errors import InvalidInput

WORDS = {
    "postgres": ("DATABASE_URL", None),
    "mongodb": ("MONGODB_URI", "mongodb://localhost:27017"),
    "redis": ("REDIS_URL", "redis://localhost:6379"),
}
BEGINNINGS = {
    "postgres": ("postgresql:", "postgres:"),
    "mongodb": ("mongodb:", "mongodb+srv:"),
    "redis": ("redis:", "rediss:"),
}
"""How a URL of each begins; a variable may hold that of another program's database."""

SUPABASE = "SUPABASE_"
"""The project's variables: HTTP addresses and keys of its API, which is no store."""


class Unused(NamedTuple):
    """Variables that name a store while the default one is used, and what to do to use them."""

    names: tuple[str, ...]
    hint: str

    def __str__(self) -> str:
        *others, last = self.names
        named = f"{', '.join(others)} and {last}" if others else last
        return f"{named} {'are' if others else 'is'} set and not used; {self.hint}"


def is_connection_variable(name: str) -> bool:
    """Whether a `.env` file is read for this variable."""
    return name in ("QUEUECTL_STORE", "DATABASE_URL", "MONGODB_URI", "REDIS_URL") or name.startswith(SUPABASE)


def url_of(given: str, environment: Mapping[str, str]) -> str:
    """The URL that was given, a word like `postgres` replaced by its URL. Raises InvalidInput."""
    if given not in WORDS:
        return _clean(given)
    url = _named(given, environment)
    if given == "redis" and environment.get("MONGODB_URI"):
        url = _with_archive(url, _named("mongodb", environment, "archive"))
    return _clean(url)


def _clean(url: str) -> str:
    """A URL that can be a path or be sent. Bytes that are no text may stand in the path of a file only."""
    try:
        os.fsencode(url) if url.startswith("sqlite:") else url.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the store's address is not valid UTF-8 (character {error.start})") from error
    if "\0" in url:
        raise InvalidInput("the store's address contains a NUL byte")
    return url


def unused(environment: Mapping[str, str]) -> Unused | None:
    """The variables that would name a store if it were asked for; None if there is none."""
    words = [
        word for word, (name, _) in WORDS.items() if environment.get(name, "").startswith(BEGINNINGS[word])
    ]
    if not words:
        return _unused_supabase(environment)
    choices = [word for word in words if word != "mongodb" or "redis" not in words]  # else it is the archive
    what = "one" if len(choices) > 1 else "it" if len(words) == 1 else "them"
    how = " or ".join(f"export QUEUECTL_STORE={word}" for word in choices)
    return Unused(tuple(WORDS[word][0] for word in words), f"to use {what}: {how}")


def _unused_supabase(environment: Mapping[str, str]) -> Unused | None:
    for name in sorted(environment):
        if name.startswith(SUPABASE) and environment[name].startswith(BEGINNINGS["postgres"]):
            return Unused((name,), "to use it, name it DATABASE_URL and: export QUEUECTL_STORE=postgres")
    if not environment.get("SUPABASE_URL"):
        return None
    how = "set DATABASE_URL to the project's connection string (Connect, Session pooler)"
    return Unused(("SUPABASE_URL",), f"it leads to an HTTP API: {how}, and: export QUEUECTL_STORE=postgres")


def _named(given: str, environment: Mapping[str, str], part: str = "store") -> str:
    """The URL that a word stands for; what it is wanted for is the store, or its archive."""
    variable, default = WORDS[given]
    url = environment.get(variable) or default
    if url is None:
        raise InvalidInput(
            f"the {part} is {given!r}, but {variable} is not set", f"set {variable} to its URL"
        )
    if not url.startswith(BEGINNINGS[given]):
        raise InvalidInput(
            f"the {part} is {given!r}, but {variable} holds the URL of another",
            f"it has to begin with {BEGINNINGS[given][0]}//",
        )
    return url


def _with_archive(url: str, archive: str) -> str:
    """A Redis URL that says where what has ended goes; what it says itself counts."""
    if "archive=" in url.partition("?")[2]:
        return url
    from urllib.parse import quote  # on SQLite nobody pays for it

    return f"{url}{'&' if '?' in url else '?'}archive={quote(archive, safe='')}"
