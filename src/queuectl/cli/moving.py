"""The commands `export` and `import`: a queue as a file, or through a pipe into another store."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING

from queuectl.cli.interruptible import interruptible
from queuectl.cli.live import progress
from queuectl.cli.selecting import WHERE_HELP
from queuectl.errors import CommandFailed, InvalidInput, OutcomeUnknown, QueuectlError
from queuectl.interrupt import INTERRUPTED
from queuectl.service import shapes
from queuectl.service.transfer.tally import ENTRIES, ON_CONFLICT, Exported, Imported, shown, words_of

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.service.transfer.running import Export, Import

BUFFER = 256 * 1024
"""Bytes that are written to stdout at once."""
NAMED_AT_MOST = 5


def export_options(parser: "Parser") -> None:
    """Add the arguments of `export`: the file, and which jobs with which output."""
    parser.add_argument(
        "file",
        nargs="?",
        default="-",
        metavar="FILE",
        help="JSON lines; compressed if the name ends in .gz (default: stdout)",
    )
    parser.add_argument("--where", metavar="FILTER", help=WHERE_HELP)
    parser.add_argument(
        "--output", choices=("all", "none"), default="all", help="what the commands printed (all)"
    )
    parser.example("queuectl export queue.jsonl.gz", "everything but secrets, in a private file")
    parser.example(
        "queuectl export | queuectl --store sqlite:///copy.db import -",
        "into another store, without a file",
    )
    parser.example("queuectl export --where 'state:dead' dead.jsonl", "only the dead jobs")


def export(session: "Session") -> int:
    """Write jobs with their output, settings, queues and schedules to a file or to stdout."""
    args = session.args
    transfer = session.queue.transfer()
    if args.file == "-":
        if session.json:
            raise InvalidInput(
                "--json needs a file: stdout has the exported lines",
                "for example: queuectl export queue.jsonl --json",
            )
        stdout = _Stdout(session)
        steps = transfer.export(stdout.write, where=args.where, output=args.output == "all")
        return _export(session, steps, stdout)
    return _export(session, transfer.export(args.file, where=args.where, output=args.output == "all"), None)


def _export(session: "Session", steps: "Export", stdout: "_Stdout | None") -> int:
    total = None if session.args.where or not session.err.isatty() else steps.count()
    with interruptible() as interrupted, progress(session, "export", total) as advance, closing(steps):
        for count in steps:
            advance(count)
            if interrupted():
                session.say("queuectl: interrupted: the export is not complete; export again")
                return INTERRUPTED
    if stdout:
        stdout.flush()
    return _say_exported(session, steps.done)


def _say_exported(session: "Session", done: Exported) -> int:
    left_out = done.left_out
    what = words_of((kind, done.counts[kind]) for kind in ("job", *ENTRIES))
    if session.json:
        found = {"file": session.args.file, "jobs": done.jobs, "left_out": left_out}
        session.emit(shapes.document(export={**found, "counts": done.counts, "sha256": done.sha256}))
    elif session.args.file == "-":
        session.say(f"queuectl: exported {what}")
    else:
        session.print(f"exported {what} to {session.args.file}")
    if not left_out:
        return 0
    named = ", ".join(left_out[:NAMED_AT_MOST]) + (", …" if len(left_out) > NAMED_AT_MOST else "")
    jobs = "1 job is" if len(left_out) == 1 else f"{len(left_out)} jobs are"
    session.err.write(
        f"queuectl: {jobs} left out, because of damage or because an import is not complete: {named}"
        " (queuectl doctor names the reasons)\n"
    )
    return CommandFailed.exit_code


class _Stdout:
    """Writes lines to stdout in large pieces."""

    def __init__(self, session: "Session") -> None:
        self._session, self._lines, self._size = session, list[bytes](), 0

    def write(self, line: bytes) -> None:
        """Write a line, later."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write all lines."""
        self._session.out.write_bytes(b"".join(self._lines))
        self._lines, self._size = [], 0


def import__options(parser: "Parser") -> None:
    """Add the arguments of `import`: the file, and what is done about conflicts and cut files."""
    parser.add_argument("file", metavar="FILE", help="an exported file, or - for stdin")
    parser.add_argument(
        "--on-conflict",
        choices=ON_CONFLICT,
        default="error",
        help="if the store has another job, setting, queue or schedule of this name: stop (error), keep it (skip), or"
        " replace it (only ended jobs)",
    )
    parser.flag("--partial", help="import what is there of a file that is cut or was changed")
    parser.flag("--dry-run", help="only say what would be imported")
    parser.example(
        "queuectl import queue.jsonl.gz", "all of it, or nothing if the file is cut or was changed"
    )
    parser.example("queuectl import --on-conflict skip queue.jsonl", "keep what the store already has")


def import_(session: "Session") -> int:
    """Bring exported jobs, settings, queues and schedules into the store."""
    args = session.args
    transfer = session.queue.transfer()
    source = sys.stdin.buffer if args.file == "-" else args.file
    steps = transfer.read(source, on_conflict=args.on_conflict, partial=args.partial, dry_run=args.dry_run)
    try:
        total = steps.check()
    except CommandFailed as fault:
        fault.message = f"{args.file}: {fault.message}; nothing is imported"
        raise
    is_interrupted = False
    try:
        is_interrupted = _run(session, steps, total)
    except QueuectlError as fault:
        _add_progress(fault, steps.done)
        raise
    return _say_imported(session, steps.done, is_interrupted)


def _run(session: "Session", steps: "Import", total: int | None) -> bool:
    """Do all steps. Returns whether Ctrl+C stopped them."""
    with interruptible() as interrupted, progress(session, "import", total) as advance, closing(steps):
        for count in steps:
            advance(count)
            session.did(_said(steps.done, "imported"))
            if interrupted():
                return True
    return False


def _add_progress(fault: QueuectlError, done: Imported) -> None:
    if not isinstance(fault, OutcomeUnknown) and done.so_far not in fault.message:
        fault.message = f"{fault.message}; {done.so_far}"
    fault.hint = fault.hint or "the same command continues"


def _say_imported(session: "Session", done: Imported, is_interrupted: bool) -> int:
    would = session.args.dry_run
    if session.json:
        interrupted = {"interrupted": True} if is_interrupted else {}
        session.emit(shapes.document(**{"import": {**shown(done), "dry_run": would, **interrupted}}))
    else:
        session.print(_said(done, "would import" if would else "imported"))
    if not done.complete:
        session.err.write("queuectl: the file is cut or was changed: this is what was there\n")
    if is_interrupted:
        session.err.write(
            "queuectl: interrupted: the other jobs are not imported; the same command continues\n"
        )
    return INTERRUPTED if is_interrupted else 0


def _said(done: Imported, verb: str) -> str:
    """The sentence about an import: what was added, then what was not."""
    parts = [f"{verb} {words_of((kind, count.added) for kind, count in done.by_kind.items())}"]
    for name, one, many in (
        ("existing", "was there", "were there"),
        ("skipped", "was skipped", "were skipped"),
        ("replaced", "replaced another", "replaced others"),
    ):
        counts = [(kind, getattr(count, name)) for kind, count in done.by_kind.items()]
        found = [each for each in counts if each[1]]
        if found:
            parts.append(f"{words_of(found)} {one if sum(count for _, count in found) == 1 else many}")
    if done.renumbered:
        new = "1 job has a new number" if done.renumbered == 1 else f"{done.renumbered} jobs have new numbers"
        parts.append(new)
    return "; ".join(parts)
