"""What one invocation works with: its arguments, the settings, the store, and where it writes.

Settings and store are made when first asked for, so that a command pays for what it uses.
"""

import os
import sys
from argparse import Namespace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from queuectl import bootstrap, config, terminal, trust
from queuectl.cli import address
from queuectl.cli.output import Data, Talk, as_json_for
from queuectl.config import Settings
from queuectl.errors import InvalidInput, StoreAbsent

if TYPE_CHECKING:
    from datetime import datetime

    from queuectl.store.protocol import Entry, Store


class Session:
    """One run of one command. Data goes to `out`, talk to `err`."""

    def __init__(
        self, args: Namespace, out: TextIO | None = None, err: TextIO | None = None, *, creates: bool = False
    ) -> None:
        self.args = args
        self.creates = creates
        self.out = Data(out or sys.stdout)
        self.err = Talk(err or sys.stderr)
        self.done: str | None = None
        self._open_store: Store | None = None
        self.absent = False
        self._first_look: dict[str, Entry] | None = None

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
        if not os.path.isfile(".env"):
            return {}
        try:
            refused = trust.refusal(".env")  # before it is read: what counts is what was judged
        except FileNotFoundError:
            return {}
        if refused is None:
            return _dotenv()
        self._tell_ignored(refused.message)
        return {}

    def _tell_ignored(self, why: str) -> None:
        """Warn of a `.env` that does not count, if it says anything that would."""
        try:
            found = _dotenv()
        except InvalidInput:
            return
        if found.keys() - os.environ.keys():
            self._warn(f".env is ignored: {why} (if you trust it, set {next(iter(found))} yourself)")

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
        store = self.look()
        entries = store.read_table("settings") if self._first_look is None else self._first_look
        return self.resolve(config.stored({key: entry.value for key, entry in entries.items()}))

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
    def given_url(self) -> str | None:
        """The URL of the store that was given, a word like `postgres` replaced by its URL; None for the default."""
        given = self.local_settings.store
        return address.url_of(given, self.environment) if given else None

    @cached_property
    def store_url(self) -> str:
        """The URL of the store that is meant, absolute."""
        return bootstrap.default_url() if self.given_url is None else bootstrap.absolute(self.given_url)

    @cached_property
    def unused(self) -> address.Unused | None:
        """Variables that name a store although the default one is used."""
        return None if self.local_settings.store else address.unused(self.environment)

    @property
    def unused_variables(self) -> tuple[str, ...]:
        """Their names."""
        return self.unused.names if self.unused else ()

    def say_unused(self) -> None:
        """Tell a person that the jobs are in another store than the variables name."""
        if self.unused:
            self.say(f"queuectl: {self.unused}")

    @property
    def store(self) -> "Store":
        """The store, opened when first asked for. It is made if it is missing and this command `creates` one."""
        found = self.look()
        if self.absent and self.creates:
            self._open_store = found = bootstrap.open_store(self.store_url, self.local_settings)
            found.migrate()
            self.absent = False
            self.say(f"queuectl: created store {bootstrap.shown(self.store_url)}{self._where()}")
        return found

    def look(self) -> "Store":
        """The store as it is: nothing is made. For one that is missing (`absent`) an empty one stands.

        Not so for a file that was named: its path may be mistyped, and StoreAbsent says so at the first verb. A queue
        with an archive is made in any case, by a mark of its own: the archive may have jobs to show.
        """
        if self._open_store is None:
            made = bootstrap.has_archive(self.store_url)
            self._open_store = bootstrap.open_store(self.store_url, self.local_settings, create=made)
            named = self.given_url is not None and bootstrap.is_local(self.store_url)
            if self.creates or not named or getattr(self.args, "dry_run", False):
                self._look_first(self._open_store)
        return self._open_store

    def _look_first(self, store: "Store") -> None:
        try:
            self._first_look = store.read_table("settings")
        except StoreAbsent as absence:
            store.close()
            self._open_store = bootstrap.empty_store(self.store_url, self.local_settings, absence)
            self.absent = True

    def now(self) -> "datetime":
        """The store's time. To ask a server a store has to be there, and is made; a file's clock is this host's."""
        return (self.look() if bootstrap.is_local(self.store_url) else self.store).now()

    def absence(self) -> str | None:
        """What is said to a person who looked at a store that is not there."""
        if not self.absent:
            return None
        return f"there is no store yet; the first enqueue creates {bootstrap.shown(self.store_url)}"

    def _where(self) -> str:
        """A relative path may lead elsewhere than a person means, so a new store says that it was one."""
        given = self.given_url
        if given is None or given == self.store_url or not bootstrap.is_local(given):
            return ""
        return f" ({given} is relative to the working directory)"

    def how_to_create(self) -> str:
        """What a person does whose store is not there; what was given as flags is given again."""
        if self.given_url is None:
            return "the first job creates it, or: queuectl doctor --create"
        from shlex import quote

        flags = [("--config", self.args.config), ("--store", self.args.store)]
        again = "".join(f"{name} {quote(value)} " for name, value in flags if value)
        if self.given_url and bootstrap.shown(self.given_url) != self.given_url and self.args.store:
            return "look at its address; to create it, with the same --store: queuectl doctor --create"
        return f"look at its address; to create it: queuectl {again}doctor --create"

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


def _dotenv() -> dict[str, str]:
    from dotenv import dotenv_values

    try:
        found = dotenv_values(".env", encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read .env: {error}") from error
    return {key: value for key, value in found.items() if value and address.is_connection_variable(key)}
