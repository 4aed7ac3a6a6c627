"""What commands printed: chunks kept under the attempt that holds the job, trimmed, and read back."""

from collections.abc import Sequence

from queuectl.domain.output import Chunk, Trim
from queuectl.store import codec
from queuectl.store.postgres.connections import Line
from queuectl.store.postgres.sql import statements

SQL = statements("output")


def write(line: Line, chunks: Sequence[Chunk], trims: Sequence[Trim]) -> set[str]:
    """Keep, then trim; answers the attempts that do not hold their job."""
    kept = (
        [chunk.job_id for chunk in chunks],
        [chunk.attempt_id for chunk in chunks],
        [chunk.n for chunk in chunks],
        [chunk.stream for chunk in chunks],
        [codec.micros(chunk.at) for chunk in chunks],
        [chunk.offset for chunk in chunks],
        [chunk.data for chunk in chunks],
    )
    trimmed = (
        [trim.job_id for trim in trims],
        [trim.attempt_id for trim in trims],
        [trim.after for trim in trims],
        [trim.before for trim in trims],
    )
    return {refused for (refused,) in line.rows(SQL["write"], (*kept, *trimmed))}


def read(line: Line, attempt_id: str, after: int, limit: int) -> list[Chunk]:
    """The chunks of an attempt after a number."""
    rows = line.rows(SQL["chunks"], (attempt_id, after, limit), binary=True)
    return [_chunk(*row) for row in rows]


def _chunk(job_id: str, attempt_id: str, n: int, stream: int, at: int, offset: int, data: bytes) -> Chunk:
    return Chunk(job_id, attempt_id, n, stream, codec.moment(at), offset, data)
