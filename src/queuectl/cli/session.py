"""What one invocation works with: its arguments, the settings, the store, and where it writes.

Settings and store are made when first asked for, so that a command pays for what it uses.
"""

import os
import sys
from argparse import Namespace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from queuectl import bootstrap, config, terminal
from queuectl.cli.output import Data, Talk, as_json_for
from queuectl.config import Settings
from queuectl.errors import StoreAbsent
from queuectl.service.settings import Sources

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
    def sources(self) -> Sources:
        """Where the settings of this call come from."""
        names = ("store", "durability", "color", "log_format", "on_disconnect")
        flags = {name: getattr(self.args, name, None) for name in names}
        return Sources(flags, self.args.config, self._warn)

    def _warn(self, text: str) -> None:
        """Shown with --quiet too: a file that a person meant to count does not."""
        self.err.write(f"queuectl: {terminal.safe(text)}\n")

    @cached_property
    def settings(self) -> Settings:
        """The settings in force, the store's shared ones included."""
        store = self.look()
        entries = store.read_table("settings") if self._first_look is None else self._first_look
        return self.sources.resolve(config.stored({key: entry.value for key, entry in entries.items()}))

    @cached_property
    def store_url(self) -> str:
        """The URL of the store that is meant, absolute."""
        given = self.sources.given_url
        return bootstrap.default_url() if given is None else bootstrap.absolute(given)

    def say_unused(self) -> None:
        """Tell a person that the jobs are in another store than the variables name."""
        if unused := self.sources.unused:
            self.say(f"queuectl: {unused.sentence}; {unused.how}")

    @property
    def store(self) -> "Store":
        """The store, opened when first asked for. It is made if it is missing and this command `creates` one."""
        found = self.look()
        if self.absent and self.creates:
            self._open_store = found = bootstrap.open_store(self.store_url, self.sources.local)
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
            self._open_store = bootstrap.open_store(self.store_url, self.sources.local, create=made)
            named = self.sources.given_url is not None and bootstrap.is_local(self.store_url)
            if self.creates or not named or getattr(self.args, "dry_run", False):
                self._look_first(self._open_store)
        return self._open_store

    def _look_first(self, store: "Store") -> None:
        try:
            self._first_look = store.read_table("settings")
        except StoreAbsent as absence:
            store.close()
            self._open_store = bootstrap.empty_store(self.store_url, self.sources.local, absence)
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
        given = self.sources.given_url
        if given is None or given == self.store_url or not bootstrap.is_local(given):
            return ""
        return f" ({given} is relative to the working directory)"

    def how_to_create(self) -> str:
        """What a person does whose store is not there; what was given as flags is given again."""
        given = self.sources.given_url
        if given is None:
            return "the first job creates it, or: queuectl doctor --create"
        if self.args.store and bootstrap.shown(given) != given:
            return "look at its address; to create it, with the same --store: queuectl doctor --create"
        from shlex import quote

        flags = [("--config", self.args.config), ("--store", self.args.store)]
        again = "".join(f"{name} {quote(value)} " for name, value in flags if value)
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
        from queuectl.cli.document import to_json, to_pretty_json

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
        return self.out.isatty() or self.sources.local.color == "always"

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
        if self.sources.local.color != "auto":
            return bool(self.sources.local.color == "always")
        return self.out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
