"""Runs a command line: parses it, calls the command's function, reports errors, and returns the exit code."""

import os
import sys
from typing import TYPE_CHECKING

from queuectl import interrupt
from queuectl.cli.commands import (
    ALIASES,
    COMMANDS,
    MEANT,
    OPTIONS_TO_COME,
    TO_COME,
    UNLISTED,
    Command,
    groups,
)
from queuectl.cli.output import Data, OutputLost, Talk, abandon_stdout, as_json_for, take_standard_streams
from queuectl.errors import InternalError, InvalidInput, NotFound, QueuectlError, StoreAbsent
from queuectl.interrupt import INTERRUPTED

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from queuectl.cli.parser import Parser

WITH_VALUE = frozenset(("--store", "--config", "--color", "--durability", "--patience"))


def entry() -> None:
    """The `queuectl` command. Skips the interpreter's shutdown, which would cost a short command 5 ms."""
    try:
        take_standard_streams()
        code = main([_as_utf_8(word) for word in sys.argv[1:]])
        interrupt.end_at_once()
        Talk(sys.stderr).flush()
    except KeyboardInterrupt:  # for example, Ctrl+C while an error is reported
        code = INTERRUPTED
    os._exit(code)


def main(argv: "Sequence[str]") -> int:
    """Run one command line; return the exit code after all of stdout is written."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    verbose = "-v" in own or "--verbose" in own
    try:
        code = _answer(argv, as_json="--json" in own, verbose=verbose)
        Data(sys.stdout).flush()
        return code
    except BrokenPipeError:
        abandon_stdout()
        return 0
    except OutputLost as lost:
        return report(lost, as_json=False, verbose=verbose)


def _answer(argv: "Sequence[str]", *, as_json: bool, verbose: bool) -> int:
    try:
        return _run(list(argv))
    except (OutputLost, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as done:  # argparse has printed the help
        return int(done.code or 0)
    except QueuectlError as error:
        return report(error, as_json=as_json, verbose=verbose)
    except Exception as error:  # a bug in queuectl: report it in one line, like any other error
        return report(InternalError(error), as_json=as_json, verbose=verbose)


def report(error: QueuectlError, *, as_json: bool, verbose: bool = False) -> int:
    """Report an error as one sentence for a person or one document for a program; return the exit code."""
    talk = Talk(sys.stderr)
    hint = f" ({error.hint})" if error.hint else ""
    talk.write(f"queuectl: {printable(error.message)}{printable(hint)}\n")
    if verbose:
        import traceback

        talk.write("".join(traceback.format_exception(error)))
    if as_json:
        from queuectl.cli.document import to_json
        from queuectl.service.shapes import error as shape

        out = Data(sys.stdout)
        try:
            out.write(as_json_for(out.encoding, to_json(shape(error))) + "\n")
            out.flush()
        except OutputLost:  # the message on stderr has reported the error
            abandon_stdout()
    return error.exit_code


def _as_utf_8(word: str) -> str:
    """The word decoded as UTF-8. Under the C locale Python has decoded each byte separately."""
    if word.isascii():
        return word
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        return word


def printable(text: str) -> str:
    """The text with control characters escaped, because a message may quote arbitrary input."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def parser_of(command: Command) -> "Parser":
    """The complete parser of one command."""
    from queuectl.cli.parser import Parser, add_globals

    parser = Parser(command.words, command.summary)
    command.configure(parser)
    add_globals(parser)
    return parser


def _run(argv: list[str]) -> int:
    command, rest = _command(argv)
    if command is None:
        return _without_command(rest)
    _refuse_options_to_come(command, rest)
    _import_msgspec()
    from queuectl.cli.session import Session  # imported here, because --version and --help do not need it

    parser = parser_of(command)
    args = _parse(parser, rest)
    session = Session(args, creates=_creates(command, args))
    try:
        code = command.runner()(session)
        session.out.flush()
        if code == 0 and not session.json and (absence := session.absence()):
            session.say(f"queuectl: {absence}")
        return code
    except OutputLost as lost:
        lost.hint = f"it was done: {session.done}" if session.done else None
        raise
    except StoreAbsent as absent:
        absent.hint = session.how_to_create()
        raise
    except NotFound as unknown:
        unknown.hint = (None if session.creates else session.absence()) or unknown.hint
        raise
    finally:
        session.close()


def _creates(command: Command, args: "Namespace") -> bool:
    """Whether this call creates a missing store. A command that only reads never creates one."""
    return (command.creates and not getattr(args, "dry_run", False)) or getattr(args, "create", False)


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions, which takes 8 ms to import and is not needed on Python 3.11."""
    if "msgspec" in sys.modules or "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


def _parse(parser: "Parser", words: list[str]) -> "Namespace":
    """Parse the words. The words after `--` are kept separately, because argparse drops the `--`."""
    program: list[str] | None = None
    if parser.no_dashes and "--" in words:
        split = words.index("--")
        words, program = words[:split], words[split + 1 :]
    args = parser.parse_args(words)
    args.program = program
    return args


def _command(argv: list[str]) -> tuple[Command | None, list[str]]:
    """The command and its arguments. Options before the name of the command belong to it too."""
    at = _first_word(argv, 0)
    if at is None:
        return None, argv
    word, rest = argv[at], argv[:at] + argv[at + 1 :]
    if word == "help":
        return _command([*rest, "--help"])
    word = ALIASES.get(word, word)
    if word in COMMANDS or word in UNLISTED:
        return COMMANDS.get(word) or UNLISTED[word], rest
    if word not in groups():
        raise _unknown(word)
    return _in_group(word, argv, at, rest)


def _in_group(group: str, argv: list[str], at: int, rest: list[str]) -> tuple[Command | None, list[str]]:
    second = _first_word(argv, at + 1)
    verbs = [words.split()[1] for words in COMMANDS if words.startswith(group + " ")]
    if second is None:
        if "-h" in argv or "--help" in argv:
            return None, argv
        raise InvalidInput(
            f"{group}: the second word is missing: {', '.join(verbs)}", f"queuectl {group} --help"
        )
    name = f"{group} {argv[second]}"
    if name not in COMMANDS and name not in UNLISTED:
        raise _unknown(name)
    return COMMANDS.get(name) or UNLISTED[name], rest[: second - 1] + rest[second:]


def _first_word(argv: list[str], start: int) -> int | None:
    skip = False
    for at, word in enumerate(argv[start:], start):
        if skip:
            skip = False
        elif word in WITH_VALUE:
            skip = True
        elif not word.startswith("-"):
            return at
    return None


def _unknown(word: str) -> InvalidInput:
    from queuectl.config import nearest

    if word in TO_COME:
        return _to_come(word)
    if word in MEANT:
        return InvalidInput(f"there is no command {word!r}", f"use: {MEANT[word]}")
    names = [*COMMANDS, *ALIASES, *groups()]
    return InvalidInput(f"there is no command {word!r}", nearest(word, names) or "queuectl --help lists them")


def _to_come(what: str) -> InvalidInput:
    return InvalidInput(f"{what} is still to come", "queuectl --help lists all commands")


def _refuse_options_to_come(command: Command, words: list[str]) -> None:
    for word in words[: words.index("--")] if "--" in words else words:
        name = word.partition("=")[0]
        if command.words in OPTIONS_TO_COME.get(name, ()):
            raise _to_come(f"{command.words} {name}")


def _without_command(argv: list[str]) -> int:
    if "--version" in argv:
        from queuectl import __version__

        Data(sys.stdout).write(f"queuectl {__version__}\n")
        return 0
    wrong = [
        word
        for word in argv
        if word.startswith("-") and word not in ("-h", "--help", *WITH_VALUE, "--json", "-q", "-v")
    ]
    if wrong:
        raise InvalidInput(f"unknown option {wrong[0]}", "queuectl --help lists the commands")
    if "--json" in argv and not {"-h", "--help"} & set(argv):
        raise InvalidInput("no command is given", "queuectl --help lists the commands")
    group = next((word for word in argv if word in groups()), "")
    Data(sys.stdout).write(overview(group))
    return 0 if group or "-h" in argv or "--help" in argv else InvalidInput.exit_code


def overview(group: str = "") -> str:
    """The help text for all commands, or for the commands of a group. The most frequent commands come first."""
    rows = [(c.words, c.summary) for c in COMMANDS.values() if c.words.startswith(group)]
    width = max(len(words) for words, _ in rows)
    lines = "\n".join(f"  {words:<{width}}   {summary}" for words, summary in rows)
    close = "queuectl COMMAND --help shows a command's options and examples.\n"
    if group:
        return f"usage: queuectl {group} COMMAND [options]\n\ncommands:\n{lines}\n\n{close}"
    return (
        f"usage: queuectl COMMAND [options]\n\nA durable queue for shell commands.\n\ncommands:\n{lines}\n\n"
        "examples:\n"
        "  queuectl enqueue 'make report'     add a command; prints its id\n"
        "  queuectl worker start --count 4    run up to four at once\n"
        f"  queuectl status                    counts, queues and workers\n\n{close}"
        "Run at night, limit a GPU, get a message when a job ends, …: see docs/recipes.md in the source of queuectl.\n"
    )
