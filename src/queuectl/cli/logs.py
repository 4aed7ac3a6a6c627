"""What a job printed: all of it, its end, or as it comes."""

import base64
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from queuectl import interrupt
from queuectl.cli.eyetext import EyeText, Sgr
from queuectl.cli.references import JOB_HELP, own_job, reference
from queuectl.domain.ids import handle
from queuectl.domain.instant import format_instant
from queuectl.domain.job import Job
from queuectl.domain.output import STDERR, STDOUT, Chunk, Piece, assemble
from queuectl.errors import InvalidInput
from queuectl.service import inside, queries, shapes

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

FOLLOW_SECONDS = 0.5
LINE_END = re.compile(rb"\r*\n|\r")


def logs_options(parser: "Parser") -> None:
    """Which job, which part, in which form."""
    parser.add_argument("job", metavar="JOB", help=JOB_HELP)
    parser.flag(
        "-f", "--follow", help="go on as it prints, until it has ended; Ctrl+C stops looking, not the job"
    )
    parser.add_argument("--attempt", metavar="N", help="an earlier attempt (default: the newest)")
    parser.add_argument("--tail", metavar="N", help="only the last N lines")
    parser.flag("--raw", help="the bytes themselves, also on a terminal: nothing replaced, nothing escaped")
    parser.flag("--plain", help="on a terminal, show colour sequences too and obey none")
    parser.flag("--stdout", help="only stdout (of jobs enqueued with --split)")
    parser.flag("--stderr", help="only stderr (of jobs enqueued with --split)")
    parser.flag("--jsonl", help="one JSON document a chunk")
    parser.example("queuectl logs @last", "what the newest job printed")
    parser.example("queuectl logs @last --tail 20", "its last twenty lines")


def logs(session: "Session") -> int:
    """Print the output."""
    args = session.args
    job = queries.show(session.store, reference(args.job))
    _refuse_nonsense(session, job)
    attempt = None if args.attempt is None else _count("--attempt", args.attempt)
    if args.follow:
        if own := own_job(session):
            inside.refuse_to_wait(session.store, own, [job.id])
        return follow(session, job, attempt)
    attempt_id = queries.attempt_of(job, attempt)
    if attempt_id is None:
        session.say(f"queuectl: job {handle(job)} is {job.state}; it has not run yet")
    pieces, total = ([], 0) if attempt_id is None else _pieces(session, job, attempt_id)
    stream = _chosen_stream(session)
    shown = _tail([p for p in pieces if p.omitted or stream in (None, p.stream)], args.tail)
    if session.json and not args.jsonl:
        session.emit(_document(job, attempt_id, shown, total))
    else:
        Printer(session).pieces(shown)
    return 0


def follow(session: "Session", job: Job, attempt: int | None = None) -> int:
    """Print output as it comes until the job has ended; a retry's output follows that of the attempt before it."""
    printer = Printer(session)
    interrupt.answer()
    try:
        return _follow(session, printer, job, attempt)
    finally:
        printer.end()


def _follow(session: "Session", printer: "Printer", job: Job, attempt: int | None) -> int:
    from queuectl.cli.wait import Watcher  # not for a look at what is there

    shown: str | None = None
    after, watcher = 0, Watcher(session, [job.id])
    while True:
        fresh = session.store.get([job.id]).get(job.id)
        if fresh is None:
            session.say(f"queuectl: job {handle(job)} was deleted")
            return 1
        attempt_id = queries.attempt_of(fresh, attempt)
        if attempt_id != shown:
            if shown is not None:
                after = _drain(session, printer, shown, after)
                session.say(f"queuectl: attempt {fresh.attempts}")
            shown, after = attempt_id, 0
            printer.end()
        if shown is not None:
            after = _drain(session, printer, shown, after)
        if fresh.ended or (attempt is not None and shown and queries.past_attempt(fresh, shown)):
            return 0
        watcher.look([fresh], 1)
        session.store.wait(FOLLOW_SECONDS)


class Printer:
    """Bytes onto stdout: exact in a pipe and with --raw, else as text that cannot harm a terminal."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._raw = bool(getattr(session.args, "raw", False))
        self._exact = self._raw or not session.on_terminal
        self._jsonl = bool(getattr(session.args, "jsonl", False))
        self._only = _chosen_stream(session)
        self._texts: dict[int, EyeText] = {}
        self._offset = 0

    def end(self) -> None:
        """The output ends here; what follows is another attempt's."""
        self._break_off()
        self._session.out.flush()
        self._offset = 0

    def chunks(self, chunks: Iterable[Chunk]) -> None:
        """Chunks as they come; a gap between them is said."""
        for chunk in chunks:
            if chunk.offset > self._offset:
                self._omitted(chunk.offset - self._offset)
            self._offset = chunk.offset + len(chunk.data)
            if self._only not in (None, chunk.stream):
                continue
            if self._jsonl:
                self._session.emit(_chunk_shape(chunk))
            else:
                self._data(chunk.stream, chunk.data)
        self._session.out.flush()

    def pieces(self, pieces: Iterable[Piece]) -> None:
        """A whole output."""
        for piece in pieces:
            if piece.omitted:
                self._omitted(piece.omitted)
            elif self._jsonl:
                self._session.emit(_piece_shape(piece))
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
        """What is cut off in the middle of a character stays so: the next bytes do not belong to it."""
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


def _drain(session: "Session", printer: Printer, attempt_id: str, after: int) -> int:
    """Print what came since; answers the number of the last chunk."""
    while chunks := session.store.read_output(attempt_id, after):
        printer.chunks(chunks)
        after = chunks[-1].n
    return after


def _pieces(session: "Session", job: Job, attempt_id: str) -> tuple[list[Piece], int]:
    chunks = list(queries.output(session.store, attempt_id))
    past = queries.past_attempt(job, attempt_id)
    stored = chunks[-1].offset + len(chunks[-1].data) if chunks else 0
    total = max(past.output_bytes if past else 0, stored)
    return assemble(chunks, job.spec.output_limit, total), total


def _tail(pieces: list[Piece], lines: str | None) -> list[Piece]:
    """The pieces that hold the last lines, the first of them cut. A line that was rewritten counts each time."""
    if lines is None:
        return pieces
    wanted = _count("--tail", lines)
    gap = next((at for at in range(len(pieces) - 1, -1, -1) if pieces[at].omitted), -1)
    data = b"".join(piece.data for piece in pieces[gap + 1 :])
    starts = [0, *(end.end() for end in LINE_END.finditer(data) if end.end() < len(data))]
    if len(starts) <= wanted:
        return pieces[max(gap, 0) :]
    skipped, kept = starts[-wanted], list[Piece]()
    for piece in pieces[gap + 1 :]:
        if skipped < len(piece.data):
            kept.append(Piece(stream=piece.stream, data=piece.data[skipped:]))
        skipped = max(skipped - len(piece.data), 0)
    return kept


def _document(job: Job, attempt_id: str | None, pieces: list[Piece], total: int) -> dict[str, Any]:
    past = queries.past_attempt(job, attempt_id) if attempt_id else None
    number = past.attempt if past else job.attempts if attempt_id else None
    return shapes.document(
        job=job.id,
        attempt=number,
        attempt_id=attempt_id,
        bytes=total,
        pieces=[_piece_shape(piece) for piece in pieces],
    )


def _piece_shape(piece: Piece) -> dict[str, Any]:
    if piece.omitted:
        return {"omitted": piece.omitted}
    return {"stream": shapes.STREAM_NAMES[piece.stream], **_data_shape(piece.data)}


def _chunk_shape(chunk: Chunk) -> dict[str, Any]:
    return {
        "n": chunk.n,
        "stream": shapes.STREAM_NAMES[chunk.stream],
        "at": format_instant(chunk.at),
        "offset": chunk.offset,
        **_data_shape(chunk.data),
    }


def _data_shape(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _count(flag: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise InvalidInput(f"{flag}: {text!r} is not a count from 1")
    return int(text)


def _refuse_nonsense(session: "Session", job: Job) -> None:
    args = session.args
    if args.stdout and args.stderr:
        raise InvalidInput("--stdout and --stderr exclude each other", "leave both out for both")
    if (args.stdout or args.stderr) and not job.spec.split:
        raise InvalidInput(
            f"the streams of job {handle(job)} were not kept apart", "enqueue it with --split for that"
        )
    if args.raw and args.plain:
        raise InvalidInput("--raw and --plain exclude each other")
    if args.follow and args.tail:
        raise InvalidInput("--follow and --tail exclude each other")
    if args.follow and session.json and not args.jsonl:
        raise InvalidInput("--follow has no end for one JSON document", "use --jsonl")
