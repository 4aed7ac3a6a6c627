"""The attempts of a job: which one is wanted, how it ended, and its stored output."""

from collections.abc import Iterator

from queuectl.domain.ids import handle
from queuectl.domain.job import Attempt, Job
from queuectl.domain.output import Chunk
from queuectl.errors import NotFound
from queuectl.store.protocol import Store

READ_BYTES = 256 * 1024
"""About so many bytes of output are read at once, and kept in memory for one reader."""
MOST_CHUNKS = 256
"""At most this many chunks of output are read at once."""


def id_of(job: Job, number: int | None) -> str | None:
    """The attempt id of the wanted attempt (None: the newest). None if no attempt has started. Raises NotFound."""
    ids = {past.attempt: past.attempt_id for past in job.history}
    if job.lease:
        ids[job.attempts] = job.lease.attempt_id
    if number is None:
        return ids[max(ids)] if ids else None
    if number not in ids:
        known = ", ".join(map(str, sorted(ids))) or "none"
        raise NotFound(f"job {handle(job)} has no attempt {number} with kept output", f"attempts: {known}")
    return ids[number]


def finished(job: Job, attempt_id: str) -> Attempt | None:
    """The finished attempt with this id, or None if it is not in the history."""
    return next((past for past in job.history if past.attempt_id == attempt_id), None)


def output(store: Store, attempt_id: str, after: int = 0) -> Iterator[Chunk]:
    """All stored chunks of an attempt with `n > after`, in order.

    A chunk has one byte or 256 KiB, so the size of the chunks of one read decides how many the next read asks for.
    """
    limit = 1
    while chunks := store.read_output(attempt_id, after, limit):
        yield from chunks
        after = chunks[-1].n
        mean = sum(len(chunk.data) for chunk in chunks) // len(chunks)
        limit = max(1, min(MOST_CHUNKS, READ_BYTES // max(mean, 1)))
