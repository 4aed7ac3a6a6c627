"""The context of one command: its arguments, the sources of its settings, the queue, and its output streams.

Settings are read and the queue is opened at the first use, because many commands do not need them.
"""

import os
import sys
from argparse import Namespace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from queuectl import bootstrap, terminal
from queuectl.cli.output import Data, Talk, as_json_for
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.errors import InvalidInput
from queuectl.service.settings import Sources

if TYPE_CHECKING:
    from queuectl.service.queue import Queue

PATIENCE, LOOKING = 10.0, 3.0
"""Seconds in which a server has to answer: usually, and to a person at a terminal who only reads."""


class Session:
    """One run of one command. `out` receives data, `err` receives messages."""

    def __init__(
        self, args: Namespace, out: TextIO | None = None, err: TextIO | None = None, *, creates: bool = False
    ) -> None:
        self.args = args
        self.creates = creates
        self.out = Data(out or sys.stdout)
        self.err = Talk(err or sys.stderr)
        self.done: str | None = None

    @property
    def json(self) -> bool:
        """Whether the command prints one JSON document on stdout."""
        return bool(self.args.json)

    @cached_property
    def sources(self) -> Sources:
        """The sources of the settings of this call."""
        names = ("store", "durability", "color", "log_format", "on_disconnect")
        flags = {name: getattr(self.args, name, None) for name in names}
        return Sources(flags, self.args.config, self._warn)

    def _warn(self, text: str) -> None:
        """Print a warning, even with --quiet: an ignored configuration file can change the result."""
        self.err.write(f"queuectl: {terminal.safe(text)}\n")

    @cached_property
    def store_url(self) -> str:
        """The absolute URL of the store of this call."""
        return bootstrap.store_url(self.sources)

    @cached_property
    def is_remote(self) -> bool:
        """Whether the store is a server."""
        return bootstrap.is_server(self.store_url)

    def refuse_remote(self, what: str, instead: str) -> None:
        """Raise InvalidInput if the store is a server, through which this does not work."""
        if self.is_remote:
            raise InvalidInput(f"{what} does not work through a server", instead)

    @cached_property
    def queue(self) -> "Queue":
        """The queue, opened at the first use.

        A missing store reads as empty. But if a flag or variable names a missing file, the first call raises
        StoreAbsent, because the path may be mistyped.
        """
        if self.is_remote:
            return self._remote()
        if self.creates:
            return bootstrap.open_queue(self.sources, "create", created=self._say_created, via="cli")
        named = self.sources.given_url is not None and bootstrap.is_local(self.store_url)
        dry_run = getattr(self.args, "dry_run", False)
        must_exist = named and not dry_run
        return bootstrap.open_queue(self.sources, "raise" if must_exist else "empty", via="cli")

    def _remote(self) -> "Queue":
        """The queue behind a server. A person who only looks at something does not want to wait for a server."""
        if self.args.durability:
            raise InvalidInput("--durability does not work through a server", "give it to queuectl serve")
        if not self.store_url.startswith("https:"):
            _import_http_client()
        given = (
            of_option("--patience", parse_duration, self.args.patience).total_seconds()
            if self.args.patience
            else None
        )
        changes = PATIENCE if given is None else given
        reads = LOOKING if given is None and self.out.isatty() else changes
        return bootstrap.open_remote(
            self.store_url,
            self.sources,
            patience=(reads, changes),
            insecure_http=self.args.insecure_http,
            notice=self.say,
        )

    def _say_created(self, url: str) -> None:
        self.say(f"queuectl: created store {bootstrap.shown(url)}{self._where()}")

    def say_unused(self) -> None:
        """Report variables that name a store which this call does not use."""
        if unused := self.sources.unused:
            self.say(f"queuectl: {unused.sentence}; {unused.how}")

    def absence(self) -> str | None:
        """The message that the store does not exist; None if it exists."""
        if "queue" not in self.__dict__ or not self.queue.absent:
            return None
        return f"there is no store yet; the first enqueue creates {bootstrap.shown(self.store_url)}"

    def _where(self) -> str:
        """A remark that the path is relative, because the person may mean another directory."""
        given = self.sources.given_url
        if given is None or given == self.store_url or not bootstrap.is_local(given):
            return ""
        return f" ({given} is relative to the working directory)"

    def how_to_create(self) -> str:
        """How to create the missing store, as a command with the flags of this call."""
        given = self.sources.given_url
        if given is None:
            return "the first job creates it, or: queuectl doctor --create"
        if self.args.store and bootstrap.shown(given) != given:
            return "check its URL; to create it, with the same --store: queuectl doctor --create"
        from shlex import quote

        flags = [("--config", self.args.config), ("--store", self.args.store)]
        again = "".join(f"{name} {quote(value)} " for name, value in flags if value)
        return f"check its URL; to create it: queuectl {again}doctor --create"

    def close(self) -> None:
        """Close the store, if it was opened."""
        if "queue" in self.__dict__:
            self.queue.close()

    def print(self, text: str) -> None:
        """Print one line of data."""
        self.out.write(text + "\n")

    def emit(self, document: dict[str, Any], *, pretty: bool = False) -> None:
        """Print data as a JSON document: on one line, or indented on a terminal."""
        from queuectl.cli.document import to_json, to_pretty_json

        text = to_pretty_json(document) if pretty else to_json(document)
        self.out.write(as_json_for(self.out.encoding, text) + "\n")

    def did(self, sentence: str) -> None:
        """Record a change before it is printed. If stdout then fails, the error message reports the change."""
        self.done = sentence

    def say(self, text: str) -> None:
        """Write a message to stderr, unless --quiet is given."""
        if not self.args.quiet:
            self.err.write(text + "\n")
            self.err.flush()

    @cached_property
    def on_terminal(self) -> bool:
        """Whether data is formatted for a person: as tables, with control characters escaped, possibly in colour."""
        return self.out.isatty() or self.sources.local.color == "always"

    @cached_property
    def width(self) -> int:
        """The width of the terminal to which data is written."""
        return terminal.width_of(self.out.fileno())

    @cached_property
    def ellipsis(self) -> str:
        """The mark at the end of a text that was cut."""
        return terminal.ELLIPSIS if self.out.takes(terminal.ELLIPSIS) else terminal.PLAIN_ELLIPSIS

    @property
    def in_colour(self) -> bool:
        """Whether to use colour. Without --color: if the terminal has colours and NO_COLOR is not set."""
        if self.sources.local.color != "auto":
            return bool(self.sources.local.color == "always")
        return self.out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _import_http_client() -> None:
    """Import `http.client` without `ssl`, which loads OpenSSL: 10 ms for a command that does not encrypt anything.

    Only a process of the command line may do that: what imports `http.client` later finds no HTTPS in it.
    """
    if "http.client" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import http.client  # noqa: F401
    finally:
        del sys.modules["ssl"]
