"""Stores, trims and reads the output of commands: each attempt has a sorted set of its chunks."""

from collections.abc import Iterator, Sequence

import msgspec

from queuectl.domain.output import Chunk, Trim, known_stream
from queuectl.store.driver import codec
from queuectl.store.redis.connect import Line

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, int, int, bytes]).decode


def write(line: Line, chunks: Sequence[Chunk], trims: Sequence[Trim]) -> set[str]:
    """Store the chunks, then trim. Returns the attempts that do not have a lease."""
    kept = [word for c in chunks for word in (c.job_id, c.attempt_id, c.n, _packed(c))]
    cut = [word for t in trims for word in (t.job_id, t.attempt_id, t.after, t.before)]
    return {refused.decode() for refused in line.run("write_output", len(chunks), *kept, *cut)}


def read(line: Line, attempt_id: str, after: int, limit: int) -> list[Chunk]:
    """The chunks of an attempt with a number greater than `after`."""
    key = line.key(f"output:{attempt_id}")
    found = line.call("ZRANGEBYSCORE", key, f"({after}", "+inf", "LIMIT", 0, limit)
    return codec.chunks(found, lambda packed: _chunk(attempt_id, packed))


def exists(line: Line, attempt_id: str) -> bool:
    """Whether an attempt has any chunk."""
    return bool(line.call("EXISTS", line.key(f"output:{attempt_id}")))


def of_jobs(line: Line, numbers: Sequence[int], limit: int = 256) -> Iterator[list[tuple[int, Chunk]]]:
    """Yields all chunks of all attempts of these jobs, in batches, each chunk with the number of its job."""
    left, attempt, n = [f"{number:016}" for number in numbers], "", 0
    while found := line.run("read_outputs", limit, attempt, n, *left):
        for number, each, pieces in found:
            attempt = each.decode()
            chunks = codec.chunks(pieces, lambda packed: _chunk(attempt, packed))  # noqa: B023
            yield [(int(number), chunk) for chunk in chunks]
        left, n = left[left.index(found[-1][0].decode()) :], _number(found[-1][2][-1])


def _packed(chunk: Chunk) -> bytes:
    """Encode a chunk. It begins with its number, so that each chunk is a member of its own, and its job's id."""
    rest = _pack((chunk.stream, codec.micros(chunk.at), chunk.offset, chunk.data))
    return f"{chunk.n:016} {chunk.job_id} ".encode() + rest


def _chunk(attempt_id: str, packed: bytes) -> Chunk:
    n, job_id, rest = packed.split(b" ", 2)
    stream, at, offset, data = _unpack(rest)
    return Chunk(job_id.decode(), attempt_id, int(n), known_stream(stream), codec.moment(at), offset, data)


def _number(packed: bytes) -> int:
    """The number of a chunk. A damaged chunk without a number gets one that is greater than all others."""
    digits = packed[:16]
    return int(digits) if digits.isdigit() else 10**15
