"""Completion scripts, made by shtab from the same parsers that parse.

The scripts ask `queuectl __complete KIND`, an unlisted command, for the names of jobs, queues and workers.
"""

import argparse
import os
import signal
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from queuectl import bootstrap
from queuectl.cli.commands import COMMANDS, groups
from queuectl.config import OPTIONS
from queuectl.domain.job import STATES
from queuectl.domain.names import is_name
from queuectl.domain.query import Filter, Page
from queuectl.errors import InvalidInput, StoreAbsent
from queuectl.service import shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.service.queue import Queue

SHELLS = ("bash", "zsh", "fish")
KINDS = ("jobs", "queues", "workers", "states", "settings")
PATIENCE = 0.05
"""Seconds that a store may take to answer a person who has pressed Tab."""
NEWEST = 20
"""Jobs that are offered: as many as one can look through."""


def completion_options(parser: "Parser") -> None:
    """The shell."""
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    parser.example("queuectl completion bash", "a script; source it, for instance from ~/.bashrc")


def completion(session: "Session") -> int:
    """Print the script."""
    shell = session.args.shell
    if shell not in SHELLS:
        raise InvalidInput(f"there is no completion for {shell!r}", f"one of {', '.join(SHELLS)}")
    script = _fish() if shell == "fish" else _of_shtab(shell)
    if session.json:
        session.emit(shapes.document(shell=shell, script=script))
    else:
        session.print(script)
    return 0


def candidates_options(parser: "Parser") -> None:
    """The kind."""
    parser.add_argument("kind", choices=KINDS)


def candidates(session: "Session") -> int:
    """The words that could be completed to, one a line. A slow store offers nothing."""
    kind = session.args.kind
    if kind in ("states", "settings"):
        words = list(STATES if kind == "states" else OPTIONS)
    else:
        words = _in_time(session, _KNOWN[kind])
    session.out.writelines(f"{word}\n" for word in words if is_name(word))
    return 0


def _in_time(session: "Session", question: "Callable[[Queue], list[str]]") -> list[str]:
    """The answer of a store, or nothing if it takes too long. The timer starts once the driver is loaded."""
    with closing(bootstrap.open_queue(session.sources, "raise", patience=PATIENCE)) as queue:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            return question(queue)
        except StoreAbsent:
            return []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _jobs(queue: "Queue") -> list[str]:
    """The newest jobs, by number and by id: a person who types a digit means a number, otherwise an id."""
    newest = queue.list(Filter(), Page(limit=NEWEST)).jobs
    return [str(job.number) for job in newest] + [job.id for job in newest]


_KNOWN: dict[str, "Callable[[Queue], list[str]]"] = {
    "jobs": _jobs,
    "queues": lambda queue: sorted(queue.counts(Filter()).queues),
    "workers": lambda queue: sorted({item.worker.name for item in queue.workers()}),
}


def _kind_of(action: argparse.Action) -> str | None:
    """The kind of word that this argument takes: one of `KINDS`, `file` or `directory`."""
    if action.metavar in ("JOB", "ID[:ok|any|failed]"):
        return "jobs"
    if action.dest in ("queue", "state", "worker", "key"):
        return {"queue": "queues", "state": "states", "worker": "workers", "key": "settings"}[action.dest]
    if action.dest in ("file", "script", "stdin", "env_file", "config"):
        return "file"
    return "directory" if action.dest == "cwd" else None


def _of_shtab(shell: str) -> str:
    import shtab

    preamble = "\n".join(_ASKING[shell].replace("KIND", kind) for kind in KINDS)
    tree = _tree(
        {"file": shtab.FILE, "directory": shtab.DIRECTORY} | {k: {shell: f"_queuectl_{k}"} for k in KINDS}
    )
    return shtab.complete(tree, shell=shell, preamble=preamble)


_ASKING = {
    "bash": '_queuectl_KIND() { compgen -W "$(queuectl __complete KIND 2>/dev/null)" -- "$1"; }',
    "zsh": '_queuectl_KIND() { compadd -- ${(f)"$(queuectl __complete KIND 2>/dev/null)"}; }',
}


def _tree(complete: dict[str, Any]) -> argparse.ArgumentParser:
    """All parsers under one, as shtab wants them."""
    from queuectl.cli.main import parser_of

    root = argparse.ArgumentParser(prog="queuectl")
    first = root.add_subparsers(dest="command")
    # shtab hides a parser without a help.
    nested = {
        group: first.add_parser(group, help=f"commands about {group}").add_subparsers(dest="verb")
        for group in groups()
    }
    for words, command in COMMANDS.items():
        head, _, verb = words.partition(" ")
        place = nested[head] if verb else first
        parser = parser_of(command)
        for action in parser._actions:
            if kind := _kind_of(action):
                action.complete = complete[kind]  # type: ignore[attr-defined]
        place.add_parser(verb or head, parents=[parser], help=command.summary, add_help=False)
    return root


def _fish() -> str:
    """The script for fish, which shtab does not support."""
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
            about, asked = _quoted(action.help or ""), _asked_of_fish(action)
            here = f"complete -c queuectl -n {_quoted(inside)}"
            lines += [f"{here} -l {word} -d {about}{asked and f' -x{asked}'}" for word in flags]
            if not action.option_strings and asked:
                lines.append(here + asked)
    return "\n".join(lines)


def _asked_of_fish(action: argparse.Action) -> str:
    kind = _kind_of(action)
    if kind in KINDS:
        return f" -a '(queuectl __complete {kind} 2>/dev/null)'"
    return " -a '(__fish_complete_path)'" if kind else ""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
