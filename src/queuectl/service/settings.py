"""Finds the settings of one client, and the store that they name.

A client takes its settings from flags or arguments, the environment, a `.env` file, and a configuration file. The
store's shared settings have a lower rank, and are added when the store is open.
"""

import os
from collections.abc import Callable, Mapping
from functools import cached_property

from msgspec import Struct

from queuectl import config, trust
from queuectl.config import Settings
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
"""The beginnings of a URL of each product. They are checked: a variable may contain the URL of another product."""

SUPABASE = "SUPABASE_"
"""The prefix of Supabase's own variables. They contain URLs and keys of an HTTP API, which is not a store."""


class Unused(Struct, frozen=True):
    """Variables that name a store although the default store is used.

    how      what to do to use them
    command  the same as one command to paste, or None
    """

    names: tuple[str, ...]
    how: str
    command: str | None = None

    @property
    def sentence(self) -> str:
        """The warning as one sentence, for example `DATABASE_URL is set and not used`."""
        *others, last = self.names
        named = f"{', '.join(others)} and {last}" if others else last
        return f"{named} {'are' if others else 'is'} set and not used"


class Sources:
    """The sources of one client's settings. Each source is read at its first use.

    flags   values given as flags or arguments, by the name of the setting; None where none is given
    config  the configuration file that --config names, or None
    warn    takes a sentence about a file that is ignored because another user may have written it
    """

    def __init__(
        self, flags: Mapping[str, str | None], config: str | None, warn: Callable[[str], None]
    ) -> None:
        self._flags, self._config, self._warn = flags, config, warn

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment; a `.env` file in the working directory adds connection variables that are not set."""
        return {**self._dotenv(), **os.environ}

    @cached_property
    def file(self) -> tuple[dict[str, str], str]:
        """The configuration file's options, and its name."""
        return config.read_file(self._config, self._warn)

    @cached_property
    def local(self) -> Settings:
        """The settings without the store's shared settings: enough to open the store."""
        return self.resolve({})

    def resolve(self, shared: Mapping[str, str]) -> Settings:
        """The effective settings, with these shared settings of the store. Raises InvalidInput."""
        options, name = self.file
        return config.resolve(self._flags, self.environment, options, shared, name)

    @cached_property
    def given_url(self) -> str | None:
        """The given URL of the store; a word such as `postgres` is replaced by its URL. None for the default store."""
        given = self.local.store
        return url_of(given, self.environment) if given else None

    @cached_property
    def unused(self) -> Unused | None:
        """Variables that name a store although the default store is used."""
        return None if self.local.store else unused(self.environment)

    def _dotenv(self) -> dict[str, str]:
        """The connection variables in a `.env` file. A file that another user may have written is ignored."""
        if not os.path.isfile(".env"):
            return {}
        try:
            refused = trust.refusal(".env")  # checked before the file is read
        except FileNotFoundError:
            return {}
        if refused is None:
            return _read_dotenv()
        self._warn_of_ignored(refused.message)
        return {}

    def _warn_of_ignored(self, why: str) -> None:
        """Warn that a `.env` file is ignored, if the file would set a variable that is used."""
        try:
            found = _read_dotenv()
        except InvalidInput:
            return
        if found.keys() - os.environ.keys():
            self._warn(f".env is ignored: {why} (if you trust it, set {next(iter(found))} yourself)")


def is_connection_variable(name: str) -> bool:
    """Whether a `.env` file is read for this variable."""
    return name in ("QUEUECTL_STORE", "DATABASE_URL", "MONGODB_URI", "REDIS_URL") or name.startswith(SUPABASE)


def url_of(given: str, environment: Mapping[str, str]) -> str:
    """The given URL; a word such as `postgres` is replaced by its URL. Raises InvalidInput."""
    if given not in WORDS:
        return _clean(given)
    url = _named(given, environment)
    if given == "redis" and environment.get("MONGODB_URI"):
        url = _with_archive(url, _named("mongodb", environment, "archive"))
    return _clean(url)


def _clean(url: str) -> str:
    """The URL, if it is a valid path or can be sent to a server. Only a path may contain bytes that are not text."""
    try:
        os.fsencode(url) if url.startswith("sqlite:") else url.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the store's address is not valid UTF-8 (character {error.start})") from error
    if "\0" in url:
        raise InvalidInput("the store's address contains a NUL byte")
    return url


def unused(environment: Mapping[str, str]) -> Unused | None:
    """The variables that name a store although the default store is used. None if there are none."""
    words = [
        word for word, (name, _) in WORDS.items() if environment.get(name, "").startswith(BEGINNINGS[word])
    ]
    if not words:
        return _unused_supabase(environment)
    # Beside Redis, MONGODB_URI names the archive.
    choices = [word for word in words if word != "mongodb" or "redis" not in words]
    what = "one" if len(choices) > 1 else "it" if len(words) == 1 else "them"
    commands = [f"export QUEUECTL_STORE={word}" for word in choices]
    how = f"to use {what}: {' or '.join(commands)}"
    return Unused(tuple(WORDS[word][0] for word in words), how, commands[-1])


def _unused_supabase(environment: Mapping[str, str]) -> Unused | None:
    for name in sorted(environment):
        if name.startswith(SUPABASE) and environment[name].startswith(BEGINNINGS["postgres"]):
            return Unused((name,), "to use it, name it DATABASE_URL and: export QUEUECTL_STORE=postgres")
    if not environment.get("SUPABASE_URL"):
        return None
    how = "set DATABASE_URL to the project's connection string (Connect, Session pooler)"
    return Unused(("SUPABASE_URL",), f"it leads to an HTTP API: {how}, and: export QUEUECTL_STORE=postgres")


def _named(given: str, environment: Mapping[str, str], part: str = "store") -> str:
    """The URL for a word. `part`: the store or its archive, for the error message."""
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
    """The Redis URL with the archive's URL added. A URL that already names an archive is returned unchanged."""
    if "archive=" in url.partition("?")[2]:
        return url
    from urllib.parse import quote  # imported here, because SQLite does not need it

    return f"{url}{'&' if '?' in url else '?'}archive={quote(archive, safe='')}"


def _read_dotenv() -> dict[str, str]:
    from dotenv import dotenv_values

    try:
        found = dotenv_values(".env", encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read .env: {error}") from error
    return {key: value for key, value in found.items() if value and is_connection_variable(key)}
