"""Output: head and tail are exact for all chunk sizes and all times of trimming."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from factories import NOW
from queuectl.domain.output import Chunk, Piece, assemble, head_size, surplus

SIZES = st.lists(st.integers(1, 40), max_size=40)
LIMITS = st.integers(0, 120)


def chunked(sizes: list[int]) -> tuple[bytes, list[Chunk]]:
    """An output and its chunks."""
    whole = bytes(n % 251 for n in range(sum(sizes)))
    chunks, offset = [], 0
    for n, size in enumerate(sizes, 1):
        chunks.append(Chunk("j", "a", n, 0, NOW, offset, whole[offset : offset + size]))
        offset += size
    return whole, chunks


def trimmed(chunks: list[Chunk], limit: int) -> list[Chunk]:
    """The remaining chunks after each possible trim."""
    kept: list[Chunk] = []
    for chunk in chunks:
        kept.append(chunk)
        cut = surplus([(c.n, c.offset, len(c.data)) for c in kept], limit)
        if cut:
            kept = [c for c in kept if not cut[0] < c.n < cut[1]]
    return kept


def shown(pieces: list[Piece]) -> tuple[bytes, int]:
    return b"".join(piece.data for piece in pieces), sum(piece.omitted for piece in pieces)


@given(SIZES, LIMITS)
def test_head_and_tail_are_exact_for_all_chunk_sizes_and_trims(sizes: list[int], limit: int) -> None:
    whole, chunks = chunked(sizes)
    data, omitted = shown(assemble(trimmed(chunks, limit), limit, len(whole)))
    if len(whole) <= limit:
        assert (data, omitted) == (whole, 0)
    else:
        head, tail = head_size(limit), limit // 2
        assert data == whole[:head] + whole[len(whole) - tail :]
        assert omitted == len(whole) - limit


@given(SIZES, LIMITS)
def test_pieces_account_for_every_byte_in_order(sizes: list[int], limit: int) -> None:
    whole, chunks = chunked(sizes)
    pieces = assemble(chunks, limit, len(whole))
    assert sum(len(piece.data) + piece.omitted for piece in pieces) == len(whole)
    assert not any(one.omitted and other.omitted for one, other in pairwise(pieces))


@given(SIZES, LIMITS)
def test_the_stored_output_stays_bounded(sizes: list[int], limit: int) -> None:
    _, chunks = chunked(sizes)
    kept = trimmed(chunks, limit)
    # Chunks across an edge are kept completely: one at the head, two at the tail.
    assert sum(len(chunk.data) for chunk in kept) <= limit + 3 * 40


@given(SIZES, LIMITS, st.sets(st.integers(1, 40)))
def test_a_lost_chunk_leaves_a_gap_and_does_not_shift_later_output(
    sizes: list[int], limit: int, lost: set[int]
) -> None:
    whole, chunks = chunked(sizes)
    pieces = assemble([chunk for chunk in chunks if chunk.n not in lost], limit, len(whole))
    place = 0
    for piece in pieces:
        assert piece.data == whole[place : place + len(piece.data)]
        place += len(piece.data) + piece.omitted
    assert place == len(whole)


@given(SIZES, LIMITS)
def test_trimming_never_removes_bytes_of_head_or_tail(sizes: list[int], limit: int) -> None:
    whole, chunks = chunked(sizes)
    cut = surplus([(c.n, c.offset, len(c.data)) for c in chunks], limit)
    for chunk in chunks:
        if cut and cut[0] < chunk.n < cut[1]:
            assert chunk.offset >= head_size(limit)
            assert chunk.offset + len(chunk.data) <= len(whole) - limit // 2


def test_without_chunks_only_the_missing_bytes_are_counted() -> None:
    assert surplus([], 10) is None
    assert assemble([], 10, 0) == []
    assert shown(assemble([], 10, 7)) == (b"", 7)
