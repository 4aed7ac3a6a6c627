"""Reads the output of a job: all output of one attempt, or continuously while the command runs."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from msgspec import Struct

from queuectl.domain import topics
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Piece, assemble
from queuectl.service import queries
from queuectl.store.protocol import Store, Subscription

FOLLOW_SECONDS = 0.5
"""Seconds between two reads of new output, if no change of the store wakes the reader before."""

Position = tuple[str, int]
"""The position of a reader of output: the attempt id, and the number of the last chunk that was read."""


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
    """The following chunks belong to this attempt."""

    attempt: int
    attempt_id: str


class End(Struct, frozen=True):
    """The end of the output. `job` is the ended job, or None if it was deleted."""

    job: Job | None


Part = Begin | Chunk | End


def output(store: Store, job: Job, attempt: int | None = None) -> Output:
    """The output of an attempt (None: the newest). Raises NotFound for an attempt that is not known."""
    attempt_id = queries.attempt_of(job, attempt)
    if attempt_id is None:
        return Output(job)
    chunks = list(queries.output(store, attempt_id))
    finished = queries.finished_attempt(job, attempt_id)
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

    The output of a retry follows the output of the attempt before it. `after` continues an earlier call. `look` is
    called in each round with the job. Raises NotFound for an attempt that is not known.
    """
    with closing(store.subscribe(topics.OUTPUT | topics.ENDS)) as news:
        yield from _follow(store, id, attempt, after, look, news)


def _follow(
    store: Store,
    id: str,
    attempt: int | None,
    after: Position | None,
    look: Callable[[Job], None],
    news: Subscription,
) -> Iterator[Part]:
    shown, n = after or (None, 0)
    while True:
        job = store.get([id]).get(id)
        if job is None:
            yield End(None)
            return
        attempt_id = queries.attempt_of(job, attempt)
        if shown is not None:
            n = yield from _chunks(store, shown, n)
        if attempt_id is not None and attempt_id != shown:
            shown, n = attempt_id, 0
            yield Begin(attempt or job.attempts, attempt_id)
            n = yield from _chunks(store, shown, n)
        if job.ended or (attempt is not None and shown and queries.finished_attempt(job, shown)):
            yield End(job)
            return
        look(job)
        news.wait(FOLLOW_SECONDS)


def _chunks(store: Store, attempt_id: str, n: int) -> Generator[Chunk, None, int]:
    """Yields the stored chunks after the chunk with number `n`. Returns the number of the last chunk."""
    for chunk in queries.output(store, attempt_id, n):
        yield chunk
        n = chunk.n
    return n
