"""Stores, trims and reads the output of commands."""

from collections.abc import Sequence

from queuectl.domain.output import Chunk, Trim
from queuectl.store.driver import codec
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import statements

SQL = statements("output")


def write(line: Line, chunks: Sequence[Chunk], trims: Sequence[Trim]) -> set[str]:
    """Store the chunks, then trim. Returns the attempts that do not have a lease."""
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
    """The chunks of an attempt with a number greater than `after`."""
    rows = line.rows(SQL["chunks"], (attempt_id, after, limit), binary=True)
    return codec.chunks(rows)
