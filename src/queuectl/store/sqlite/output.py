"""Stores, trims and reads the output of commands."""

from collections.abc import Sequence

import apsw

from queuectl.domain.output import Chunk, Trim
from queuectl.store.driver import codec
from queuectl.store.sqlite.sql import statements

SQL = statements("output")


def write(connection: apsw.Connection, chunks: Sequence[Chunk], trims: Sequence[Trim]) -> set[str]:
    """Store the chunks, then trim. Returns the attempts that do not have a lease."""
    claims = {(x.job_id, x.attempt_id) for x in chunks} | {(x.job_id, x.attempt_id) for x in trims}
    holders = {claim: connection.execute(SQL["holder_of"], claim).get for claim in claims}
    rows = [_row(chunk, holders[chunk.job_id, chunk.attempt_id]) for chunk in chunks]
    connection.executemany(SQL["keep"], [row for row in rows if row[2] is not None])
    for trim in trims:
        if holders[trim.job_id, trim.attempt_id] is not None:
            connection.execute(SQL["trim"], (trim.attempt_id, trim.after, trim.before))
    return {attempt_id for (_, attempt_id), number in holders.items() if number is None}


def read(connection: apsw.Connection, attempt_id: str, after: int, limit: int) -> list[Chunk]:
    """The chunks of an attempt with a number greater than `after`."""
    return codec.chunks(connection.execute(SQL["chunks"], (attempt_id, after, limit)))


def _row(chunk: Chunk, job: int | None) -> tuple[object, ...]:
    at = codec.micros(chunk.at)
    return (chunk.attempt_id, chunk.n, job, chunk.stream, at, chunk.offset, chunk.data)
