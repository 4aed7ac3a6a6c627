"""Completion scripts, made by shtab from the same parsers that parse."""

import argparse
from typing import TYPE_CHECKING

from queuectl.cli.commands import COMMANDS, groups
from queuectl.errors import InvalidInput
from queuectl.service import shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

SHELLS = ("bash", "zsh", "fish")


def completion_options(parser: "Parser") -> None:
    """The shell."""
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    parser.example("queuectl completion bash", "a script; source it, for instance from ~/.bashrc")


def completion(session: "Session") -> int:
    """Print the script."""
    shell = session.args.shell
    if shell not in SHELLS:
        raise InvalidInput(f"there is no completion for {shell!r}", f"one of {', '.join(SHELLS)}")
    import shtab

    script = _fish() if shell == "fish" else shtab.complete(_tree(), shell=shell)
    if session.json:
        session.emit(shapes.document(shell=shell, script=script))
    else:
        session.print(script)
    return 0


def _tree() -> argparse.ArgumentParser:
    """All parsers under one, as shtab wants them."""
    from queuectl.cli.main import parser_of

    root = argparse.ArgumentParser(prog="queuectl")
    first = root.add_subparsers(dest="command")
    # Without a help, shtab takes a parser for a hidden one.
    nested = {
        group: first.add_parser(group, help=f"commands about {group}").add_subparsers(dest="verb")
        for group in groups()
    }
    for words, command in COMMANDS.items():
        head, _, verb = words.partition(" ")
        place = nested[head] if verb else first
        place.add_parser(verb or head, parents=[parser_of(command)], help=command.summary, add_help=False)
    return root


def _fish() -> str:
    """shtab has no fish; its own words for it are few enough."""
    from queuectl.cli.main import parser_of

    lines = ["complete -c queuectl -f"]
    for words, command in COMMANDS.items():
        head, _, verb = words.partition(" ")
        seen = f"__fish_seen_subcommand_from {head}"
        inside = f"{seen}; and __fish_seen_subcommand_from {verb}" if verb else seen
        if not verb or words == next(name for name in COMMANDS if name.startswith(head + " ")):
            lines.append(
                f"complete -c queuectl -n __fish_use_subcommand -a {head} -d {_quoted(command.summary)}"
            )
        if verb:
            lines.append(f"complete -c queuectl -n {_quoted(seen)} -a {verb} -d {_quoted(command.summary)}")
        for action in parser_of(command)._actions:
            flags = [option[2:] for option in action.option_strings if option.startswith("--")]
            about = _quoted(action.help or "")
            lines += [f"complete -c queuectl -n {_quoted(inside)} -l {word} -d {about}" for word in flags]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
