"""The argument parser of one command: argparse with other error messages, with examples, without abbreviations."""

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from queuectl.cli.output import Data
from queuectl.errors import InvalidInput

# Disable translations: argparse would import `locale` and search directories for its texts, 2 ms per start.
argparse._ = str  # type: ignore[attr-defined]


def _formatter(prog: str) -> argparse.HelpFormatter:
    """A formatter with a fixed width: otherwise argparse imports `shutil` (3 ms) to read the terminal's width."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=110)


_VALUE = re.compile(r"-(?:[0-9]|[a-z_]+(?:\.[^:]+)?:)")


class Parser(argparse.ArgumentParser):
    """Parses one command's arguments. A mistake raises InvalidInput; the parser never exits."""

    def __init__(self, words: str, summary: str) -> None:
        super().__init__(
            prog=f"queuectl {words}".strip(),
            description=summary,
            formatter_class=_formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._optionals.title = "options"
        self.examples: list[tuple[str, str]] = []
        self.no_dashes = False
        self.intermixed = False
        """Whether options may stand between arguments of which the last may be missing."""
        self.about_unknown: Callable[[list[str], argparse.Namespace, list[str]], None] = lambda *_: None
        """Called with unknown words; it may raise InvalidInput with a better message."""

    def example(self, line: str, meaning: str) -> None:
        """Add an example to the help. A test runs every example."""
        self.examples.append((line, meaning))

    def flag(self, *names: str, help: str, **options: Any) -> None:
        """Add an option without a value."""
        self.add_argument(*names, action="store_true", help=help, **options)

    def parse_args(self, words: list[str]) -> argparse.Namespace:  # type: ignore[override]
        """Parse all words. Raises InvalidInput for an unknown word."""
        parse = self.parse_known_intermixed_args if self.intermixed else self.parse_known_args
        args, unknown = parse(words)
        if unknown:
            self.about_unknown(words, args, unknown)
            self.error(f"unknown option or argument {unknown[0] or repr('')}{self._near(unknown[0])}")
        return args

    def _parse_optional(self, arg_string: str) -> Any:
        """Take -17:-2 (a cursor) and -queue:mail (a term of a filter) for values. No option looks like that."""
        return None if _VALUE.match(arg_string) else super()._parse_optional(arg_string)

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(message, f"{self.prog} --help shows the arguments")

    def format_help(self) -> str:
        width = max((len(line) for line, _ in self.examples), default=0)
        lines = [f"  {line:<{width}}   {meaning}" for line, meaning in self.examples]
        self.epilog = "examples:\n" + "\n".join(lines) if lines else None
        return super().format_help()

    def print_help(self, _file: object = None) -> None:
        """Print the help to stdout. argparse's own method ignores a failed write; this one reports it."""
        Data(sys.stdout).write(self.format_help())

    def _near(self, word: str) -> str:
        from queuectl.config import nearest

        near = nearest(word.partition("=")[0], list(self._option_string_actions))
        return f": {near}" if near and word.startswith("-") else ""


def add_globals(parser: Parser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--store", metavar="URL", help="the store (QUEUECTL_STORE; default: your own SQLite file)"
    )
    group.add_argument(
        "--config", metavar="FILE", help="configuration file (default: ./queuectl.toml, then the XDG one)"
    )
    group.add_argument("--json", action="store_true", help="one JSON document on stdout")
    group.add_argument("-q", "--quiet", action="store_true", help="print only the requested data")
    group.add_argument("-v", "--verbose", action="store_true", help="print more, with tracebacks")
    group.add_argument(
        "--color", choices=("auto", "always", "never"), help="colour and tables (default: on a terminal)"
    )
    group.add_argument("--patience", metavar="D", help="how long to try to reach a server (default: 10s)")
    if "--insecure-http" not in parser._option_string_actions:  # `serve` has one that also says how to listen
        parser.flag("--insecure-http", help="send the token to the server of --store http://… in clear")
    group.add_argument("--durability", choices=("power-safe", "fast"), help=argparse.SUPPRESS)
    group.add_argument("-h", "--help", action="help", help="show this help")
