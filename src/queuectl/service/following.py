"""Reads the output of a job: all output of one attempt, or continuously while the command runs."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain import topics
from queuectl.domain.ids import handle
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Piece, assemble
from queuectl.errors import InvalidInput
from queuectl.service import attempts
from queuectl.store.protocol import Store

FOLLOW_SECONDS = 0.5
"""Seconds between two reads of new output, if no change of the store wakes the reader before."""


class Output(Struct, frozen=True):
    """The output of one attempt.

    attempt  its number, and `attempt_id`; None when no attempt has started
    pieces   the kept bytes in order; a piece with `omitted` stands for bytes that were not kept
    total    all bytes that were printed, kept or not
    """

    job: Job
    attempt: int | None = None
    attempt_id: str | None = None
    pieces: list[Piece] = []
    total: int = 0


class Begin(Struct, frozen=True):
    """The following chunks belong to this attempt.

    worker      the id of its worker; None if it is not known
    started_at  None if the command has not started yet
    offset      where its first chunk begins: 0, unless the reader asked for a later byte
    """

    attempt: int
    attempt_id: str
    worker: str | None = None
    started_at: datetime | None = None
    offset: int = 0


class End(Struct, frozen=True):
    """The end of the output. `job` is the ended job, or None if it was deleted."""

    job: Job | None


Part = Begin | Chunk | End


class Position(NamedTuple):
    """The position of a reader in the output of a job. A reader that continues there misses no attempt.

    attempt_id  the attempt that is read; empty before the `Begin` of the attempt
    offset      the first byte of it that was not read
    attempt     its number; 0 if it is not known. An attempt may be given back, and then its id is not known any more.
                The attempts from this number on are read then
    chunk       the number of a chunk that ends at or before the offset; 0 if none is known. Reading begins after it
    """

    attempt_id: str
    offset: int
    attempt: int = 0
    chunk: int = 0

    def after(self, part: Part) -> "Position":
        """The position of a reader that has read this part too."""
        if isinstance(part, Begin):
            return Position(part.attempt_id, part.offset, part.attempt)
        if isinstance(part, Chunk):
            return self._replace(offset=part.offset + len(part.data), chunk=part.n)
        return self


def start_of(job: Job, attempt: int | None = None, offset: int = 0) -> Position:
    """The position of a reader that begins with an attempt (None: the newest; the first if none has begun).

    A reader takes it once: later it would miss the attempts between. Raises NotFound for an attempt that is not known.
    """
    if attempt is not None:
        attempts.id_of(job, attempt)
        return Position("", offset, attempt)
    known = begins(job)
    return Position("", offset, known[-1].attempt if known else 1)


def output(store: Store, job: Job, attempt: int | None = None) -> Output:
    """The output of an attempt (None: the newest). Raises NotFound for an attempt that is not known."""
    attempt_id = attempts.id_of(job, attempt)
    if attempt_id is None:
        return Output(job)
    chunks = list(attempts.output(store, attempt_id))
    finished = attempts.finished(job, attempt_id)
    stored = chunks[-1].offset + len(chunks[-1].data) if chunks else 0
    total = max(finished.output_bytes if finished else 0, stored)
    number = finished.attempt if finished else job.attempts
    return Output(job, number, attempt_id, assemble(chunks, job.spec.output_limit, total), total)


def follow(
    store: Store,
    id: str,
    *,
    attempt: int | None = None,
    after: Position | None = None,
    look: Callable[[Job], None] = lambda job: None,
) -> Iterator[Part]:
    """Yields the output of a job as it is printed, until the job (or the named attempt) has ended.

    Without `after` it begins at `start_of` the job. The output of a retry follows the output of the attempt before it.
    `after` continues at this position; a chunk that contains it is cut. `look` is called in each round with the job.
    Raises NotFound for an attempt that is not known.
    """
    reader: _Reader | None = None
    with closing(store.subscribe(topics.OUTPUT | topics.ENDS)) as news:
        while True:
            job = store.get([id]).get(id)
            if job is None:
                yield End(None)
                return
            reader = reader or _Reader(store, id, attempt, after or start_of(job, attempt))
            yield from reader.news(job)
            if job.ended or reader.has_all(job):
                yield End(job)
                return
            look(job)
            news.wait(FOLLOW_SECONDS)


def check_stream(job: Job, stream: int | None) -> None:
    """Raise InvalidInput if one stream is wanted, and the job did not keep its streams apart."""
    if stream is not None and not job.spec.split:
        raise InvalidInput(
            f"the streams of job {handle(job)} were not stored separately", "enqueue the job with --split"
        )


class _Reader:
    """Reads the output of one job from a position on."""

    def __init__(self, store: Store, id: str, wanted: int | None, at: Position) -> None:
        self._store, self._id, self._wanted = store, id, wanted
        self._at = self._sought(at)

    def news(self, job: Job) -> Iterator[Part]:
        """Yields all output that was not read yet. `job` was read before, so that an ended attempt is complete."""
        if self._at.attempt_id:
            yield from self._chunks()
        for begin in self._next_begins(job):
            self._at = self._sought(self._at.after(begin))
            yield begin
            yield from self._chunks()

    def has_all(self, job: Job) -> bool:
        """Whether only one attempt is wanted, and it has ended."""
        return self._wanted is not None and attempts.finished(job, self._at.attempt_id) is not None

    def _next_begins(self, job: Job) -> list[Begin]:
        """The attempts after the shown one. Several attempts may begin and end between two rounds.

        The shown attempt is not known if none was shown yet, if it was given back, or if the history has dropped it. An
        attempt that was given back is not counted: the next one has the same number.
        """
        at, known = self._at, begins(job)
        shown = next((each.attempt for each in known if each.attempt_id == at.attempt_id), None)
        first = at.attempt if shown is None else shown + 1
        return [
            replace(each, offset=at.offset) if not at.attempt_id and each.attempt == at.attempt else each
            for each in known
            if each.attempt >= first and self._wanted in (None, each.attempt)
        ]

    def _chunks(self) -> Iterator[Chunk]:
        for chunk in attempts.output(self._store, self._at.attempt_id, self._at.chunk):
            rest = rest_of(chunk, self._at.offset) if chunk.job_id == self._id else None
            self._at = self._at._replace(chunk=chunk.n) if rest is None else self._at.after(rest)
            if rest is not None:
                yield rest

    def _sought(self, at: Position) -> Position:
        """The position with a chunk from which to read, so that the output before it is not read again."""
        if at.chunk or not at.attempt_id or not at.offset:
            return at
        return at._replace(chunk=chunk_before(self._store, at.attempt_id, at.offset))


def chunk_before(store: Store, attempt_id: str, offset: int) -> int:
    """The number of the last stored chunk that ends at or before an offset; 0 if there is none.

    It is found by bisection: a chunk has at least one byte, so its number is not greater than the offset of its end.
    """
    low, high = 0, offset
    while low < high:
        middle = (low + high + 1) // 2
        found = store.read_output(attempt_id, middle - 1, 1)
        if found and found[0].offset + len(found[0].data) <= offset:
            low = found[0].n
        else:
            high = middle - 1
    return low


def rest_of(chunk: Chunk, offset: int) -> Chunk | None:
    """The part of a chunk from an offset on; None if the chunk ends before it."""
    known = max(offset - chunk.offset, 0)
    if known >= len(chunk.data):
        return None
    return replace(chunk, offset=chunk.offset + known, data=chunk.data[known:]) if known else chunk


def begins(job: Job) -> list[Begin]:
    """The attempts of a job that are known, in order."""
    found = {
        past.attempt: Begin(past.attempt, past.attempt_id, past.worker, past.started_at)
        for past in job.history
    }
    if (lease := job.lease) is not None:
        found[job.attempts] = Begin(job.attempts, lease.attempt_id, lease.worker, lease.started_at)
    return [found[number] for number in sorted(found)]
