"""`queuectl logs`: prints the output of a job: all of it, only its end, or continuously while the job runs."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from queuectl import interrupt
from queuectl.cli.eyetext import EyeText, Sgr
from queuectl.cli.references import JOB_HELP, own_job, reference
from queuectl.domain.ids import Numbered, handle
from queuectl.domain.job import Job
from queuectl.domain.output import STDERR, STDOUT, Chunk, Piece, last_lines, of_stream
from queuectl.errors import InvalidInput
from queuectl.service.following import Begin, Part, check_stream
from queuectl.service.shapes import output as shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session


def logs_options(parser: "Parser") -> None:
    """Add the arguments of `logs`: the job, the part of its output, and the format."""
    parser.add_argument("job", metavar="JOB", help=JOB_HELP)
    parser.flag(
        "-f", "--follow", help="follow the output until the job has ended; Ctrl+C does not end the job"
    )
    parser.add_argument("--attempt", metavar="N", help="an earlier attempt (default: the newest)")
    parser.add_argument("--tail", metavar="N", help="only the last N lines")
    parser.flag("--raw", help="the exact bytes, also on a terminal")
    parser.flag("--plain", help="on a terminal, show colour sequences as text too")
    parser.flag("--stdout", help="only stdout (of jobs enqueued with --split)")
    parser.flag("--stderr", help="only stderr (of jobs enqueued with --split)")
    parser.flag("--jsonl", help="one JSON document per chunk")
    parser.example("queuectl logs @last", "the output of the newest job")
    parser.example("queuectl logs @last --tail 20", "its last twenty lines")


def logs(session: "Session") -> int:
    """Print the output of a job."""
    args = session.args
    attempt = None if args.attempt is None else _count("--attempt", args.attempt)
    if args.follow:
        return _follow_named(session, attempt)
    found = session.queue.output(reference(args.job), attempt)
    _refuse_nonsense(session, found.job)
    if found.attempt_id is None:
        session.say(f"queuectl: job {handle(found.job)} is {found.job.state}; it has not run yet")
    shown = of_stream(found.pieces, _chosen_stream(session))
    if args.tail is not None:
        shown = last_lines(shown, _count("--tail", args.tail))
    if session.json and not args.jsonl:
        session.emit(shapes.output(replace(found, pieces=shown)))
    else:
        Printer(session).pieces(shown)
    return 0


def _follow_named(session: "Session", attempt: int | None) -> int:
    job = session.queue.show(reference(session.args.job))
    _refuse_nonsense(session, job)
    if own := own_job(session):
        session.queue.refuse_to_wait(own, [job.id], [])
    return follow(session, job, attempt)


def follow(session: "Session", job: Numbered, attempt: int | None = None) -> int:
    """Print new output until the job has ended. If the job is retried, print the output of the next attempt too."""
    from queuectl.cli.wait import Watcher  # imported here, because only -f needs it

    printer, watcher = Printer(session), Watcher(session, [job.id])
    interrupt.answer()

    def look(job: Job) -> None:
        session.out.flush()
        watcher.look([job], 1)

    try:
        return _print_parts(session, printer, job, session.queue.follow(job.id, attempt=attempt, look=look))
    finally:
        printer.end()


def _print_parts(session: "Session", printer: "Printer", job: Numbered, parts: Iterable[Part]) -> int:
    is_first = True
    for part in parts:
        if isinstance(part, Chunk):
            printer.chunk(part)
        elif isinstance(part, Begin):
            printer.end()
            if not is_first:
                session.say(f"queuectl: attempt {part.attempt}")
            is_first = False
        elif part.job is None:
            session.say(f"queuectl: job {handle(job)} was deleted")
            return 1
    return 0


class Printer:
    """Writes output to stdout: unchanged into a pipe and with --raw, otherwise as text that is safe for a terminal."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._raw = bool(getattr(session.args, "raw", False))
        self._exact = self._raw or not session.on_terminal
        self._jsonl = bool(getattr(session.args, "jsonl", False))
        self._only = _chosen_stream(session)
        self._texts: dict[int, EyeText] = {}
        self._offset = 0

    def end(self) -> None:
        """End the output of an attempt; the next chunk belongs to another attempt."""
        self._break_off()
        self._session.out.flush()
        self._offset = 0

    def chunk(self, chunk: Chunk) -> None:
        """Write a chunk. If bytes before it are missing, first write their number."""
        if chunk.offset > self._offset:
            self._omitted(chunk.offset - self._offset)
        self._offset = chunk.offset + len(chunk.data)
        if self._only not in (None, chunk.stream):
            return
        if self._jsonl:
            self._session.emit(shapes.chunk(chunk))
        else:
            self._data(chunk.stream, chunk.data)

    def pieces(self, pieces: Iterable[Piece]) -> None:
        """Write the complete output of an attempt."""
        for piece in pieces:
            if piece.omitted:
                self._omitted(piece.omitted)
            elif self._jsonl:
                self._session.emit(shapes.piece(piece))
            else:
                self._data(piece.stream, piece.data)
        self.end()

    def _data(self, stream: int, data: bytes) -> None:
        if self._exact:
            self._session.out.write_bytes(data)
            return
        text = self._texts.get(stream)
        if text is None:
            text = self._texts[stream] = self._text()
        self._session.out.write(text.feed(data))

    def _text(self) -> EyeText:
        args = self._session.args
        sgr: Sgr = (
            "shown" if getattr(args, "plain", False) else "kept" if self._session.in_colour else "dropped"
        )
        return EyeText(sgr, live=bool(args.follow) and self._session.out.isatty())

    def _break_off(self) -> None:
        """Write the bytes of an incomplete character: bytes after them are missing, so it cannot be completed."""
        self._session.out.writelines(text.feed(b"", final=True) for text in self._texts.values())
        self._texts.clear()

    def _omitted(self, count: int) -> None:
        self._break_off()
        if self._jsonl:
            self._session.emit({"omitted": count})
        elif self._raw:
            self._session.say(f"queuectl: {count} bytes in the middle were not kept")
        else:
            self._session.print(f"\n[… {count} bytes were not kept …]")


def _chosen_stream(session: "Session") -> int | None:
    if getattr(session.args, "stdout", False):
        return STDOUT
    return STDERR if getattr(session.args, "stderr", False) else None


def _count(flag: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise InvalidInput(f"{flag}: {text!r} is not a count from 1")
    return int(text)


def _refuse_nonsense(session: "Session", job: Job) -> None:
    args = session.args
    if args.stdout and args.stderr:
        raise InvalidInput("--stdout and --stderr exclude each other", "omit both to see both streams")
    check_stream(job, _chosen_stream(session))
    if args.raw and args.plain:
        raise InvalidInput("--raw and --plain exclude each other")
    if args.follow and args.tail:
        raise InvalidInput("--follow and --tail exclude each other")
    if args.follow and session.json and not args.jsonl:
        raise InvalidInput("--follow cannot print one JSON document", "use --jsonl")
