"""What one invocation works with: its arguments, the settings, the store, and where it writes.

Settings and store are made when first asked for, so that a command pays for what it uses.
"""

import os
import sys
from argparse import Namespace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from queuectl import bootstrap, config, terminal, trust
from queuectl.cli.output import Data, Talk, as_json_for
from queuectl.config import Settings
from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    from queuectl.store.protocol import Store

CONNECTION_VARIABLES = ("QUEUECTL_STORE", "DATABASE_URL", "MONGODB_URI", "REDIS_URL")
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


class Session:
    """One run of one command. Data goes to `out`, talk to `err`."""

    def __init__(self, args: Namespace, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.args = args
        self.out = Data(out or sys.stdout)
        self.err = Talk(err or sys.stderr)
        self.done: str | None = None
        self._open_store: Store | None = None

    @property
    def json(self) -> bool:
        """Whether stdout carries one JSON document."""
        return bool(self.args.json)

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment; a `.env` file in the working directory adds connection variables that are not set."""
        return {**self._dotenv(), **os.environ}

    def _dotenv(self) -> dict[str, str]:
        """Connection variables of a `.env` file; none of one that somebody else may have written."""
        found = _dotenv()
        refused = trust.refusal(".env") if found.keys() - os.environ.keys() else None
        if refused is None:
            return found
        self._warn(f".env is ignored: {refused.message} (if you trust it, set {next(iter(found))} yourself)")
        return {}

    def _warn(self, text: str) -> None:
        """Said even with --quiet: what was meant to count does not."""
        self.err.write(f"queuectl: {terminal.safe(text)}\n")

    @cached_property
    def file(self) -> tuple[dict[str, str], str]:
        """The configuration file's options, and its name."""
        return config.read_file(self.args.config, self._warn)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force, the store's shared ones included."""
        shared = {key: str(entry.value["value"]) for key, entry in self.store.shared("settings").items()}
        return self.resolve(shared)

    @cached_property
    def local_settings(self) -> Settings:
        """The settings without the store's: enough to open it."""
        return self.resolve({})

    def resolve(self, shared: dict[str, str]) -> Settings:
        """The settings that follow from these shared ones."""
        flags = {
            key: getattr(self.args, key, None)
            for key in ("store", "durability", "color", "log_format", "on_disconnect")
        }
        options, name = self.file
        return config.resolve(flags, self.environment, options, shared, name)

    @cached_property
    def store_url(self) -> str:
        """The URL of the store that is meant, a word like `postgres` replaced by its URL."""
        given = self.local_settings.store
        if not given:
            return bootstrap.default_url()
        if given not in WORDS:
            return str(given)
        url = self._named(given)
        archive = self.environment.get("MONGODB_URI") if given == "redis" else None
        return _with_archive(url, self._named("mongodb", "archive")) if archive else url

    def _named(self, given: str, part: str = "store") -> str:
        """The URL that a word stands for; what it is wanted for is the store, or its archive."""
        variable, default = WORDS[given]
        url = self.environment.get(variable) or default
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

    @property
    def store(self) -> "Store":
        """The store, opened (and on first use created) when first asked for."""
        if self._open_store is None:
            self._open_store = bootstrap.open_store(self.store_url, self.local_settings)
        return self._open_store

    def close(self) -> None:
        """Let go of the store, if it was opened."""
        if self._open_store is not None:
            self._open_store.close()

    def print(self, text: str) -> None:
        """Data, one line."""
        self.out.write(text + "\n")

    def emit(self, document: dict[str, Any], *, pretty: bool = False) -> None:
        """Data, as a JSON document: on one line, or indented for people."""
        from queuectl.cli.render import to_json, to_pretty_json

        text = to_pretty_json(document) if pretty else to_json(document)
        self.out.write(as_json_for(self.out.encoding, text) + "\n")

    def did(self, sentence: str) -> None:
        """Something was changed: say so if the answer cannot be written. Call it before the answer is printed."""
        self.done = sentence

    def say(self, text: str) -> None:
        """Talk: not with --quiet."""
        if not self.args.quiet:
            self.err.write(text + "\n")
            self.err.flush()

    @cached_property
    def on_terminal(self) -> bool:
        """Whether data is written for eyes: tables, nothing harmful, and colour if it is wanted."""
        return self.out.isatty() or self.local_settings.color == "always"

    @cached_property
    def width(self) -> int:
        """The columns of the terminal that data is written to."""
        return terminal.width_of(self.out.fileno())

    @cached_property
    def ellipsis(self) -> str:
        """The mark of what was cut off."""
        return terminal.ELLIPSIS if self.out.takes(terminal.ELLIPSIS) else terminal.PLAIN_ELLIPSIS

    @property
    def in_colour(self) -> bool:
        """Whether colour is wanted: on a terminal that has it, never with NO_COLOR, unless --color says so."""
        if self.local_settings.color != "auto":
            return bool(self.local_settings.color == "always")
        return self.out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _with_archive(url: str, archive: str) -> str:
    """A Redis URL that says where what has ended goes; what it says itself counts."""
    if "archive=" in url.partition("?")[2]:
        return url
    from urllib.parse import quote  # on SQLite nobody pays for it

    return f"{url}{'&' if '?' in url else '?'}archive={quote(archive, safe='')}"


def _dotenv() -> dict[str, str]:
    if not os.path.isfile(".env"):
        return {}
    from dotenv import dotenv_values

    try:
        found = dotenv_values(".env")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read .env: {error}") from error
    return {key: value for key, value in found.items() if value and key in CONNECTION_VARIABLES}
