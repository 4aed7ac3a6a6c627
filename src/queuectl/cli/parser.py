"""The argument parser of one command: argparse with our words for errors, examples in the help, nothing abbreviated."""

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from queuectl.cli.output import Data
from queuectl.errors import InvalidInput

# Our words are English only. To look for translations of argparse's, it would import `locale` and search directories
# anew for each of them, 2 ms of every start.
argparse._ = str  # type: ignore[attr-defined]


def _formatter(prog: str) -> argparse.HelpFormatter:
    """With a width of its own, argparse does not import `shutil` (3 ms) to ask for the terminal's at every option."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=110)


class Parser(argparse.ArgumentParser):
    """Parses one command's arguments; a mistake is an InvalidInput, never an exit from within."""

    def __init__(self, words: str, summary: str) -> None:
        super().__init__(
            prog=f"queuectl {words}".strip(),
            description=summary,
            formatter_class=_formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._optionals.title = "options"
        # No option of ours begins with a digit: what looks like -17:-2 is a value, for instance a cursor.
        self._negative_number_matcher = re.compile(r"^-\d")
        self.examples: list[tuple[str, str]] = []
        self.no_dashes = False
        self.about_unknown: Callable[[list[str], argparse.Namespace, list[str]], None] = lambda *_: None
        """Asked about words that fit nowhere; it may know better what was meant, and raise InvalidInput."""

    def example(self, line: str, meaning: str) -> None:
        """An example for the help; every one of them is run by a test."""
        self.examples.append((line, meaning))

    def flag(self, *names: str, help: str, **options: Any) -> None:
        """An option that is on or off."""
        self.add_argument(*names, action="store_true", help=help, **options)

    def parse_args(self, words: list[str]) -> argparse.Namespace:  # type: ignore[override]
        """All words as arguments. Raises InvalidInput for one that fits nowhere."""
        args, unknown = self.parse_known_args(words)
        if unknown:
            self.about_unknown(words, args, unknown)
            self.error(f"unknown option or argument {unknown[0] or repr('')}{self._near(unknown[0])}")
        return args

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(message, f"{self.prog} --help shows how")

    def format_help(self) -> str:
        width = max((len(line) for line, _ in self.examples), default=0)
        lines = [f"  {line:<{width}}   {meaning}" for line, meaning in self.examples]
        self.epilog = "examples:\n" + "\n".join(lines) if lines else None
        return super().format_help()

    def print_help(self, _file: object = None) -> None:
        """The help, on stdout: argparse would not notice that it cannot be written."""
        Data(sys.stdout).write(self.format_help())

    def _near(self, word: str) -> str:
        from queuectl.config import nearest

        near = nearest(word.partition("=")[0], list(self._option_string_actions))
        return f": {near}" if near and word.startswith("-") else ""


def add_globals(parser: Parser) -> None:
    """The options that every command has."""
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--store", metavar="URL", help="the store (QUEUECTL_STORE; default: a SQLite file of your own)"
    )
    group.add_argument(
        "--config", metavar="FILE", help="configuration file (default: ./queuectl.toml, then the XDG one)"
    )
    group.add_argument("--json", action="store_true", help="one JSON document on stdout")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing that is not asked for")
    group.add_argument("-v", "--verbose", action="store_true", help="say more, tracebacks included")
    group.add_argument(
        "--color", choices=("auto", "always", "never"), help="colour and tables (default: on a terminal)"
    )
    group.add_argument("--durability", choices=("power-safe", "fast"), help=argparse.SUPPRESS)
    group.add_argument("-h", "--help", action="help", help="this help")
