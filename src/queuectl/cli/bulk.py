"""`queuectl enqueue -` and `--file`: many jobs, one a line, committed in large batches."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import msgspec

from queuectl import interrupt
from queuectl.cli.enqueued import announce
from queuectl.cli.live import Live, Rest
from queuectl.cli.texts import MARK_BYTES, begins_json
from queuectl.errors import InvalidInput, OutcomeUnknown, QueuectlError
from queuectl.service import shapes
from queuectl.service.enqueueing import Enqueued
from queuectl.service.merge import merge
from queuectl.service.request.fields import JobRequest, convert_request, decode_request

if TYPE_CHECKING:
    from queuectl.cli.session import Session
    from queuectl.domain.job import Job

Line = tuple[int, bytes]

BATCH, REMOTE_BATCH = 5000, 1000
"""Lines per commit, in a store and through a server. Each batch costs one fsync; if a line is invalid, no line of its
batch is enqueued."""


def enqueue_lines(session: "Session", fields: dict[str, Any]) -> int:
    """Enqueue every line. Without --keep-going an invalid line ends the command, and none of its batch is enqueued."""
    args = session.args
    if args.wait or args.follow:
        raise InvalidInput(
            "--wait and --follow accept only one job",
            "use --batch instead, then for example: queuectl wait --batch nightly",
        )
    if "id" in fields:
        raise InvalidInput("--id is the id of one job, but a file has many", "put the ids into the lines")
    answer = _Answer(session)
    with _opened(args.file) as source, _Progress(session, source) as progress:
        reader = _Reader(session, fields, progress.live)
        lines = _lines(source, plain=args.plain_lines)
        size = REMOTE_BATCH if session.is_remote else BATCH
        while batch := list(islice(lines, size)):
            added = reader.enqueue(batch)
            progress.live.clear()  # because the ids may be written to the same terminal
            answer.tell(added)
            progress.advance(len(batch))
    answer.end()
    return answer.code or (1 if reader.skipped else 0)


class _Answer:
    """Reports the jobs batch by batch, and prints the document at the end."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._shown: list[Any] = []
        self._refused: QueuectlError | None = None
        self._first = 0
        self.code = 0

    def tell(self, added: Sequence[Enqueued]) -> None:
        """Report the result of one batch."""
        if not added:
            return
        if self._session.args.dry_run:
            self._shown += _dry(self._session, [item.whole for item in added])
            return
        self._first = self._first or next((item.stored.number for item in added if not item.refused), 0)
        self.code = announce(self._session, added, self._first) or self.code
        self._refused = self._refused or next(filter(None, (item.refused for item in added)), None)
        if self._session.json:
            self._shown += [shapes.enqueued(item) for item in added if not item.refused]

    def end(self) -> None:
        """Print the document, if --json is given."""
        if self._session.json:
            error = shapes.error(self._refused) if self._refused else {}
            self._session.emit(shapes.all_enqueued(self._shown) | error)


class _Reader:
    """Turns lines into requests, and enqueues them."""

    def __init__(self, session: "Session", fields: dict[str, Any], live: Live) -> None:
        self._session, self._live = session, live
        self._fields = fields
        self._template = convert_request(fields)
        self.skipped = 0

    def enqueue(self, batch: list[Line]) -> Sequence[Enqueued]:
        """Enqueue a batch of lines, or refuse it for its first invalid line. --keep-going skips invalid lines."""
        requests, faults = self._requests(batch)
        numbers = list(requests)
        keep_going, dry_run = self._session.args.keep_going, self._session.args.dry_run
        if faults and not keep_going:
            first = min(faults)
            before = [request for number, request in requests.items() if number < first]
            # An earlier line may have a fault that only this check finds.
            self._enqueue(numbers, before, dry_run=True)
            self._refuse(first, faults[first])

        def note(error: InvalidInput) -> None:
            faults[numbers[error.index or 0]] = error

        on_invalid = note if keep_going else None
        try:
            return self._enqueue(numbers, list(requests.values()), on_invalid=on_invalid, dry_run=dry_run)
        finally:
            self._skip(faults)

    def _requests(self, batch: list[Line]) -> tuple[dict[int, JobRequest], dict[int, InvalidInput]]:
        """The requests of the valid lines and the errors of the invalid ones, by line number."""
        requests: dict[int, JobRequest] = {}
        faults: dict[int, InvalidInput] = {}
        for number, raw in batch:
            try:
                requests[number] = self._request(raw)
            except InvalidInput as error:
                faults[number] = error
        return requests, faults

    def _request(self, raw: bytes) -> JobRequest:
        if begins_json(raw):
            return merge(self._fields, decode_request(raw))
        try:
            command = raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"not UTF-8 (byte {error.start})") from error
        return msgspec.structs.replace(self._template, command=command)

    def _enqueue(
        self,
        numbers: list[int],
        requests: list[JobRequest],
        *,
        on_invalid: Callable[[InvalidInput], None] | None = None,
        dry_run: bool,
    ) -> Sequence[Enqueued]:
        if not requests:
            return []
        try:
            return self._session.queue.enqueue(requests, on_invalid=on_invalid, dry_run=dry_run)
        except OutcomeUnknown as unknown:
            self._session.out.writelines(id + "\n" for id in unknown.ids)
            hint = "the ids of the uncertain batch are printed; `queuectl list` shows which of them exist"
            raise OutcomeUnknown(unknown.message, hint) from unknown
        except QueuectlError as error:
            if isinstance(error, InvalidInput) and error.index is not None:
                self._refuse(numbers[error.index], error)
            error.hint = error.hint or f"nothing from line {numbers[0]} to {numbers[-1]} was enqueued"
            raise

    def _refuse(self, number: int, error: InvalidInput) -> NoReturn:
        hint = error.hint or "nothing of its batch is enqueued; --keep-going skips bad lines"
        raise InvalidInput(f"line {number}: {error.message}", hint) from error

    def _skip(self, faults: dict[int, InvalidInput]) -> None:
        for number in sorted(faults):
            self.skipped += 1
            self._live.clear()
            self._session.err.write(f"queuectl: line {number} skipped: {faults[number].message}\n")


def _dry(session: "Session", jobs: "list[Job]") -> list[Any]:
    shown = [shapes.job(job) for job in jobs]
    if not session.json:
        for item in shown:
            session.emit(item)
    return shown


def _lines(source: BinaryIO, *, plain: bool = False) -> Iterator[Line]:
    """The lines that contain a job, with their numbers. Each item of a JSON array counts as a line.

    Empty lines are skipped. Unless `plain`, lines that begin with # are skipped too, and a backslash at the end of a
    line joins the line with the next one.
    """
    numbered = _marked_off(source)
    for number, raw in numbered:
        line = raw.strip()
        if not line or (line.startswith(b"#") and not plain):
            continue
        if _is_array(line):
            yield from _items(line + b"\n" + source.read())
            return
        yield number, line if plain else _joined(raw, numbered)
        break
    for number, raw in numbered:
        line = raw.strip()
        if line and (plain or not line.startswith(b"#")):
            yield number, line if plain else _joined(raw, numbered)


def _marked_off(source: BinaryIO) -> Iterator[Line]:
    """Numbered lines, without a byte order mark before the first one."""
    for number, raw in enumerate(source, 1):
        yield number, raw.removeprefix(MARK_BYTES) if number == 1 else raw


def _joined(raw: bytes, following: Iterator[Line]) -> bytes:
    """A line with its continuation lines: as in a shell, an odd number of backslashes at the end joins two lines."""
    whole = raw.rstrip(b"\r\n")
    while (len(whole) - len(whole.rstrip(b"\\"))) % 2:
        _, more = next(following, (0, None))
        if more is None:
            break
        whole = whole[:-1] + more.rstrip(b"\r\n")
    return whole.strip()


def _is_array(line: bytes) -> bool:
    """Whether a line begins a JSON array: an object, a string, `]` or nothing follows `[`. `[ -f x ]` does not."""
    return line[:1] == b"[" and line[1:].lstrip()[:1] in (b"{", b'"', b"]", b"")


def _items(text: bytes) -> Iterator[Line]:
    try:
        items = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"the JSON array is malformed: {error}") from error
    for number, item in enumerate(items, 1):
        raw = bytes(item)
        if raw[:1] not in (b"{", b'"'):
            raise InvalidInput(f"line {number}: a job or the text of a command is expected, not {_cut(raw)}")
        # Wrapped as a JSON job, because the text of a command may itself begin with {.
        yield number, raw if raw[:1] == b"{" else b'{"command":' + raw + b"}"


def _cut(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= 40 else text[:40] + "…"


@contextmanager
def _opened(path: str | None) -> Iterator[BinaryIO]:
    if path is None or path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115  closed below, and the error is ours only here
    except OSError as error:
        raise InvalidInput(f"--file: cannot read {path}: {error.strerror}") from error
    with file:
        yield file


class _Progress:
    """Shows progress on a live line: the jobs so far, and an estimate of all jobs if the file's size is known."""

    def __init__(self, session: "Session", source: BinaryIO) -> None:
        self.live, self._rest = Live(session), Rest()
        self._source, self._size = source, _size(source) if self.live.wanted else 0
        self._lines = 0
        if self.live.wanted:
            interrupt.answer()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.live.clear()

    def advance(self, lines: int) -> None:
        """Count this many more lines as done."""
        self._lines += lines
        if self.live.wanted:
            self.live.show(f"{self._lines}{self._of()}")

    def _of(self) -> str:
        read = self._source.tell() if self._size else 0
        # A JSON array, for example, is read completely before its first job.
        if not 0 < read < self._size:
            return " enqueued"
        total = round(self._lines * self._size / read)
        return f" of about {total} enqueued{self._rest.words(self._size - read)}"


def _size(source: BinaryIO) -> int:
    """The size of a regular file in bytes. Returns 0 for a pipe or a terminal."""
    found = os.fstat(source.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
