"""Head and tail are exact for any output, chunk numbers rise by one, and memory stays within the limit."""

import sys
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.output import Chunk, assemble, head_size
from queuectl.worker.holder.output_buffer import OutputBuffer
from queuectl.worker.protocol import Reader

NOW = datetime(2026, 11, 22, tzinfo=UTC)

feeds = st.lists(
    st.tuples(st.binary(max_size=60), st.sampled_from((1, 2)), st.sampled_from(("flush", "ack", "wait"))),
    max_size=40,
)


def chunks_of(frames: list[bytes]) -> list[Chunk]:
    reader, found = Reader(), []
    for frame in frames:
        for m, data in reader.feed(frame):
            found.append(Chunk(m["job_id"], m["attempt_id"], m["n"], m["stream"], NOW, m["offset"], data))
    return found


def shipped(buffer: OutputBuffer, script: list[tuple[bytes, int, str]], split: bool) -> list[Chunk]:
    frames: list[bytes] = []
    for at, (data, stream, then) in enumerate(script):
        buffer.feed(stream if split else 0, memoryview(data), float(at))
        if then == "flush":
            frames += buffer.flush(0.0, at + 0.9)
        elif then == "ack":
            buffer.acknowledge(len(chunks_of(frames)), float(at))
    return chunks_of(frames + buffer.flush(0.0, 1e9, final=True))


@given(feeds, st.integers(0, 100))
def test_head_and_tail_are_exact_for_all_sizes_and_times(
    script: list[tuple[bytes, int, str]], limit: int
) -> None:
    buffer = OutputBuffer("a", "j", limit, split=False)
    chunks = shipped(buffer, script, split=False)
    whole = b"".join(data for data, _, _ in script)
    head_end = min(head_size(limit), len(whole))
    tail_start = max(len(whole) - limit // 2, head_end)
    pieces = assemble(chunks, limit, len(whole))
    assert buffer.total == len(whole)
    assert [chunk.n for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert b"".join(piece.data for piece in pieces) == whole[:head_end] + whole[tail_start:]
    assert sum(piece.omitted for piece in pieces) == tail_start - head_end
    assert buffer.last == whole[-400:]


@given(feeds, st.integers(0, 100))
def test_split_streams_keep_each_byte_with_its_stream(
    script: list[tuple[bytes, int, str]], limit: int
) -> None:
    chunks = shipped(OutputBuffer("a", "j", limit, split=True), script, split=True)
    whole = b"".join(data for data, _, _ in script)
    owner = b"".join(bytes([stream]) * len(data) for data, stream, _ in script)
    for chunk in chunks:
        end = chunk.offset + len(chunk.data)
        assert chunk.data == whole[chunk.offset : end]
        assert set(owner[chunk.offset : end]) == {chunk.stream}


def test_memory_is_bounded_without_acknowledgements() -> None:
    limit = 1 << 16
    buffer = OutputBuffer("a", "j", limit, split=True)
    block = memoryview(bytes(10_000))
    most = 0
    for at in range(1000):
        buffer.feed(1 + at % 2, block, float(at))
        buffer.flush(0.0, at + 0.9)
        most = max(most, buffer.size())
    assert most <= 2 * limit + 2 * (256 << 10)
    assert sys.getsizeof(buffer.last) < 1000


def test_the_next_flush_waits_for_the_acknowledgement_of_the_last() -> None:
    buffer = OutputBuffer("a", "j", 1000, split=False)
    buffer.feed(0, memoryview(b"first"), 0.0)
    assert [c.data for c in chunks_of(buffer.flush(0.0, buffer.due()))] == [b"first"]
    buffer.feed(0, memoryview(b"second"), 1.0)
    assert (buffer.due(), buffer.flush(0.0, 100.0)) == (float("inf"), [])
    buffer.acknowledge(1, 100.0)
    assert buffer.due() <= 100.5
    assert [c.n for c in chunks_of(buffer.flush(0.0, buffer.due()))] == [2]


def test_unacknowledged_chunks_are_kept_with_their_bytes() -> None:
    buffer = OutputBuffer("a", "j", 1000, split=False)
    buffer.feed(0, memoryview(b"some"), 0.0)
    frames = buffer.flush(0.0, 1.0)
    assert [chunk.frame for chunk in buffer.unacknowledged] == frames
    buffer.acknowledge(1, 1.0)
    assert buffer.unacknowledged == []


def test_the_first_output_is_shipped_within_a_quarter_second() -> None:
    buffer = OutputBuffer("a", "j", 1000, split=False)
    buffer.feed(0, memoryview(b"x"), 5.0)
    assert buffer.due() <= 5.25


def test_a_big_head_is_shipped_at_once() -> None:
    buffer = OutputBuffer("a", "j", 1 << 20, split=False)
    buffer.feed(0, memoryview(bytes(100_000)), 5.0)
    assert buffer.due() == 5.0


def test_only_head_and_tail_of_a_large_output_are_shipped() -> None:
    limit, buffer = 1000, OutputBuffer("a", "j", 1000, split=False)
    flood = b"".join(b"%07d\n" % n for n in range(187_500))  # so that the last feed trims output
    for at in range(0, len(flood), 50_000):
        buffer.feed(0, memoryview(flood[at : at + 50_000]), 0.0)
    chunks = chunks_of(buffer.flush(0.0, 0.0, final=True))
    assert [(c.offset, c.data) for c in chunks] == [(0, flood[:500]), (len(flood) - 500, flood[-500:])]
    assert limit == sum(len(c.data) for c in chunks)
