"""What commands printed: chunks in a hash for each attempt."""

from collections.abc import Iterator, Sequence

import msgspec

from queuectl.domain.output import Chunk, Trim
from queuectl.store import codec
from queuectl.store.redis.connections import Line

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, int, int, int, bytes]).decode


def write(line: Line, chunks: Sequence[Chunk], trims: Sequence[Trim]) -> set[str]:
    """Keep, then trim; answers the attempts that do not hold their job."""
    kept = [word for c in chunks for word in (c.job_id, c.attempt_id, c.n, _packed(c))]
    cut = [word for t in trims for word in (t.job_id, t.attempt_id, t.after, t.before)]
    return {refused.decode() for refused in line.run("write_output", len(chunks), *kept, *cut)}


def read(line: Line, attempt_id: str, after: int, limit: int) -> list[Chunk]:
    """The chunks of an attempt after a number."""
    flat = line.run("read_output", attempt_id, after, limit)
    return [_chunk(attempt_id, int(n), packed) for n, packed in zip(flat[::2], flat[1::2], strict=True)]


def of_job(line: Line, number: int) -> Iterator[Chunk]:
    """All chunks of all attempts of a job."""
    for attempt in line.call("SMEMBERS", line.key(f"outputs:{number:016}")):
        flat = line.call("HGETALL", line.key(f"output:{attempt.decode()}"))
        for n, packed in zip(flat[::2], flat[1::2], strict=True):
            yield _chunk(attempt.decode(), int(n), packed)


def _packed(chunk: Chunk) -> bytes:
    return _pack((chunk.job_id, chunk.stream, codec.micros(chunk.at), chunk.offset, chunk.data))


def _chunk(attempt_id: str, n: int, packed: bytes) -> Chunk:
    job_id, stream, at, offset, data = _unpack(packed)
    return Chunk(job_id, attempt_id, n, stream, codec.moment(at), offset, data)
