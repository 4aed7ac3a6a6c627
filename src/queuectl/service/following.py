"""Reads the output of a job: all output of one attempt, or continuously while the command runs."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime

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

Position = tuple[str, int]
"""The position of a reader of output: the attempt id, and the offset of the first byte that was not read."""


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
    """

    attempt: int
    attempt_id: str
    worker: str | None = None
    started_at: datetime | None = None


class End(Struct, frozen=True):
    """The end of the output. `job` is the ended job, or None if it was deleted."""

    job: Job | None


Part = Begin | Chunk | End


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

    Without `after` the newest attempt is the first. The output of a retry follows the output of the attempt before it.
    `after` continues at this position; a chunk that contains it is cut. `look` is called in each round with the job.
    Raises NotFound for an attempt that is not known.
    """
    with closing(store.subscribe(topics.OUTPUT | topics.ENDS)) as news:
        reader = _Reader(store, id, attempt, after)
        while True:
            job = store.get([id]).get(id)
            if job is None:
                yield End(None)
                return
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
    """The position in the output of one job, and the number of the last chunk before it."""

    def __init__(self, store: Store, id: str, attempt: int | None, after: Position | None) -> None:
        self._store, self._id, self._wanted = store, id, attempt
        self._shown: str | None
        self._shown, self._offset = after or (None, 0)
        self._number, self._n = 0, 0

    def news(self, job: Job) -> Iterator[Part]:
        """Yields all output that was not read yet. `job` was read before, so that an ended attempt is complete."""
        if self._shown is not None:
            yield from self._chunks(self._shown)
        for begin in self._next_begins(job):
            self._shown, self._number, self._offset, self._n = begin.attempt_id, begin.attempt, 0, 0
            yield begin
            yield from self._chunks(begin.attempt_id)

    def has_all(self, job: Job) -> bool:
        """Whether only one attempt is wanted, and it has ended."""
        return bool(self._wanted is not None and self._shown and attempts.finished(job, self._shown))

    def _next_begins(self, job: Job) -> list[Begin]:
        """The attempts after the shown one. Several attempts may begin and end between two rounds."""
        if self._wanted is not None:
            wanted = attempts.id_of(job, self._wanted)
            return [begin for begin in begins(job) if begin.attempt_id == wanted != self._shown]
        known = begins(job)
        if not known:
            self._number = max(
                self._number, 1
            )  # the first attempt has not begun: no later one may be the first
        number = next((each.attempt for each in known if each.attempt_id == self._shown), None)
        if number is not None:
            return [each for each in known if each.attempt > number]
        # The shown attempt was given back, or the history is full and has dropped it. An attempt that was given back
        # is not counted: the next one has the same number.
        return [each for each in known if each.attempt >= self._number] if self._number else known[-1:]

    def _chunks(self, attempt_id: str) -> Iterator[Chunk]:
        for chunk in attempts.output(self._store, attempt_id, self._n):
            self._n = chunk.n
            if chunk.job_id == self._id and (rest := rest_of(chunk, self._offset)) is not None:
                yield rest


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
