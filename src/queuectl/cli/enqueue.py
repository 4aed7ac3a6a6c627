"""`queuectl enqueue`: one command, a program with arguments, a JSON job, or a file of them."""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from queuectl.cli import texts
from queuectl.cli.enqueued import announce
from queuectl.domain.ids import handle
from queuectl.errors import InvalidInput, OutcomeUnknown
from queuectl.service import mistakes
from queuectl.service.request.fields import Flag, JobRequest, convert_request, decode_request, flags
from queuectl.service.times import read_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.domain.job import Job
    from queuectl.service.enqueueing import Enqueued, JobSummary


def enqueue_options(parser: "Parser") -> None:
    """Add the arguments of `enqueue`: the command and its policy."""
    parser.no_dashes = True
    parser.about_unknown = lambda words, args, unknown: _refuse_unquoted(words, args.command, unknown[0])
    parser.usage = "queuectl enqueue [options] 'CMD' | '{JSON}' | - | --file F | --script F | -- PROG ARG…"
    parser.add_argument(
        "command", nargs="*", metavar="CMD", help="a shell command, a JSON job, or - for lines of both"
    )
    parser.add_argument(
        "--file",
        metavar="F",
        help="read lines from a file: shell commands, or JSON jobs; empty lines and lines that begin with # are "
        "skipped, and a \\ at the end of a line joins it with the next one",
    )
    job_options(parser)
    parser.flag(
        "--plain-lines",
        help="with - or --file: each line is one job, without comments and continuation lines",
    )
    parser.flag("--keep-going", help="with - or --file: skip bad lines and report them")
    parser.flag("--dry-run", help="print the job as it would be stored, and store nothing")
    parser.flag("--wait", help="wait for the end; exit with the command's own code")
    parser.flag("--follow", help="show the output while the job runs, and wait for the end")
    parser.example("queuectl enqueue 'echo hello'", "one command, run by /bin/sh")
    parser.example(
        "queuectl enqueue --timeout 5m --retries 5 'make report'", "with a time limit and a retry budget"
    )
    parser.example("queuectl enqueue -- ls -l /", "a program and its arguments, without a shell")
    parser.example('queuectl enqueue \'{"command":"echo hi","priority":5}\'', "a JSON job")
    parser.example("printf 'echo 1\\necho 2\\n' | queuectl enqueue -", "many jobs, one per line")


def job_options(parser: "Parser", without: Collection[str] = ()) -> None:
    """Add the options that set fields of a job, except those of some fields."""
    parser.add_argument("--script", metavar="F", help="store the text of a script, and run the stored text")
    parser.add_argument(
        "--stdin", metavar="F", help="store a file's text as the command's input; - reads stdin"
    )
    for name, flag in flags():
        if name not in without:
            _option(parser, name, flag)
    parser.add_argument(
        "--env",
        metavar="K[=V]",
        action="append",
        help="an environment variable; without =V the value set here",
    )
    parser.add_argument("--env-file", metavar="F", action="append", help="variables from a file of K=V lines")


def _option(parser: "Parser", name: str, flag: Flag) -> None:
    if not flag.metavar:
        parser.flag(*flag.names, dest=name, default=None, help=flag.help)
    elif flag.many:
        parser.add_argument(*flag.names, dest=name, metavar=flag.metavar, action="append", help=flag.help)
    else:
        parser.add_argument(*flag.names, dest=name, metavar=flag.metavar, help=flag.help)


def enqueue(session: "Session") -> int:
    """Enqueue the job or the jobs, and print the ids."""
    session.say_unused()
    args = session.args
    if args.follow and session.json:
        raise InvalidInput(
            "--follow cannot print one JSON document", "use --wait, then queuectl logs @last --json"
        )
    sources = [bool(args.command), args.program is not None, args.file is not None, args.script is not None]
    if sum(sources) != 1:
        raise InvalidInput(
            "no command is given" if not any(sources) else "a command is given in two ways",
            "for example: queuectl enqueue 'echo hello'; --help shows all ways",
        )
    if args.file is not None or args.command == ["-"]:
        from queuectl.cli.bulk import enqueue_lines

        return enqueue_lines(session, template(session))
    return _enqueue_one(session, request_of(session))


def template(session: "Session") -> dict[str, Any]:
    """The fields of a request that the flags set."""
    args = session.args
    given = {}
    for name, flag in flags():
        if (text := getattr(args, name, None)) is not None:
            given[name] = _READERS[flag.kind](flag.names[0], text)
    if "after" in given:
        given["after"] = session.queue.parents(given["after"])
    if args.env or args.env_file:
        given["env"] = _environment(args.env_file or [], args.env or [])
    if args.stdin is not None:
        given["stdin"] = texts.read(args.stdin, "--stdin").decode("utf-8", "surrogateescape")
    return given


def request_of(session: "Session") -> JobRequest:
    """The request for the one job of this call."""
    args, fields = session.args, template(session)
    if args.program is not None:
        return convert_request({**fields, "argv": args.program})
    if args.script is not None:
        return convert_request({**fields, "command": texts.read_text(args.script, "--script")})
    if len(args.command) > 1:
        raise _unquoted(args.command)
    text = args.command[0].removeprefix(texts.MARK)
    if texts.begins_json(text):
        from queuectl.service.merge import merge

        return merge(fields, decode_request(text.lstrip()))
    return convert_request({**fields, "command": text})


def _refuse_unquoted(words: list[str], command: list[str], unknown: str) -> None:
    """Refuse `enqueue ls -l`: a short option after the first word belongs to the command, which must be quoted."""
    start = words.index(command[0]) if command and command[0] in words else len(words)
    if unknown in words[start:] and not unknown.startswith("--"):
        raise _unquoted(words[start:])


def _unquoted(words: list[str]) -> InvalidInput:
    from shlex import join, quote

    one = quote(" ".join(words))
    return InvalidInput(
        f"{len(words)} words are given, one command is expected",
        f"quote it: queuectl enqueue {one}; or, without a shell: queuectl enqueue -- {join(words)}",
    )


def _enqueue_one(session: "Session", request: JobRequest) -> int:
    if session.args.dry_run:
        [dry] = session.queue.enqueue([request], dry_run=True)
        _say_start(session, request)
        return _show_dry(session, dry.whole)
    if session.args.wait or session.args.follow:
        _refuse_for_itself(session, request)
    [item] = _add(session, request)
    _say_start(session, request)
    code = announce(session, [item])
    if not item.refused and (session.args.wait or session.args.follow):
        return _wait(session, item.stored)
    if session.json:
        from queuectl.service import shapes

        done = shapes.error(item.refused) if item.refused else shapes.all_enqueued([shapes.enqueued(item)])
        session.emit(done)
    elif session.on_terminal and item.status == "added" and item.stored.state == "pending":
        queue = request.queue or "default"
        session.say(f"queued on {queue!r}; follow it with: queuectl logs -f {handle(item.stored)}")
    return code


def _add(session: "Session", request: JobRequest) -> "Sequence[Enqueued]":
    try:
        return session.queue.enqueue([request])
    except OutcomeUnknown as unknown:
        [id] = unknown.ids
        session.print(id)
        raise OutcomeUnknown(
            unknown.message, f"repeating the same command with --id {id} is safe"
        ) from unknown


def _say_start(session: "Session", request: JobRequest) -> None:
    """Report how a start time was interpreted if it is local, ambiguous, or does not exist."""
    text = request.run_at or request.scheduled_at
    if text is not None and (note := read_time(text, session.queue.now()).note):
        session.say(f"queuectl: {note}")


def _refuse_for_itself(session: "Session", request: JobRequest) -> None:
    """Inside a job: before anything is enqueued, refuse to wait for a job that cannot end before this job ends."""
    from queuectl.cli.references import own_job

    if own := own_job(session):
        [dry] = session.queue.enqueue([request], dry_run=True)
        parents = [parent.job for parent in dry.whole.spec.after]
        session.queue.refuse_to_wait(own, parents, [dry.whole.queue])


def _wait(session: "Session", job: "Job | JobSummary") -> int:
    session.out.flush()
    if session.args.follow:
        from queuectl.cli.logs import follow

        follow(session, job)
    from queuectl.cli.wait import wait_for_one

    return wait_for_one(session, job.id)


def _show_dry(session: "Session", job: "Job") -> int:
    from queuectl.service import shapes

    shown = shapes.job(job)
    session.emit(shapes.document(job=shown)) if session.json else session.emit(shown, pretty=True)
    return 0


def _number(kind: "type[int] | type[float]", noun: str, flag: str, text: str) -> Any:
    try:
        return kind(text) if len(text) < 20 else text
    except ValueError:
        raise InvalidInput(f"{flag}: {text!r} is not {noun}") from None


def _codes(flag: str, text: str) -> list[int]:
    try:
        return [int(code) for code in text.split(",")]
    except ValueError:
        raise InvalidInput(f"{flag}: {text!r} is not a list of exit codes", "for example 2,64") from None


def _json(flag: str, text: str) -> Any:
    import msgspec

    mistakes.refuse_depth(text.encode("utf-8", "surrogateescape"))
    try:
        return msgspec.json.decode(text.removeprefix(texts.MARK))
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"{flag}: {error}") from error


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "text": lambda flag, text: text,
    "whole": lambda flag, text: _number(int, "a whole number", flag, text),
    "real": lambda flag, text: _number(float, "a number", flag, text),
    "codes": _codes,
    "json": _json,
    "path": lambda flag, text: os.path.abspath(text),
}
"""How to parse the text of a flag, by the kind in its row."""


def _environment(files: list[str], given: list[str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for file in files:
        variables |= _env_file(file)
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            if name not in os.environ:
                raise InvalidInput(
                    f"--env {name}: this variable is not set here", f"give a value: --env {name}=…"
                )
            value = os.environ[name]
        variables[name] = value
    return variables


def _env_file(path: str) -> dict[str, str]:
    from io import StringIO

    from dotenv import dotenv_values

    text = texts.read_text(path, "--env-file")
    return {
        name: value or "" for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()
    }
