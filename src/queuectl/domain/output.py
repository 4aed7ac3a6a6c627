"""The output of a command: numbered chunks of bytes, and how they are assembled.

The first and the last `output_limit / 2` bytes of each attempt are kept; the bytes between them are only counted. A
chunk carries its offset in the whole output, so a gap is visible: the next chunk begins after the end of this one.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

COMBINED, STDOUT, STDERR = 0, 1, 2
LINE_END = re.compile(rb"\r*\n|\r")


class Chunk(Struct, frozen=True):
    """Consecutive bytes of the output of one attempt. `n` counts from 1; the same `n` always has the same bytes.

    `stream` is COMBINED unless the job keeps its streams apart (`split`); `offset` counts bytes of all streams.
    """

    job_id: str
    attempt_id: str
    n: int
    stream: int
    at: datetime
    offset: int
    data: bytes


class Trim(Struct, frozen=True):
    """Delete the chunks of an attempt with `after < n < before`: they are between head and tail."""

    job_id: str
    attempt_id: str
    after: int
    before: int


class Piece(Struct, frozen=True):
    """A part of an assembled output: bytes, or (`omitted > 0`) a count of bytes that were not kept."""

    stream: int
    data: bytes = b""
    omitted: int = 0


def known_stream(stream: int) -> int:
    """Return the stream if it exists. Raises ValueError."""
    if type(stream) is not int or stream not in (COMBINED, STDOUT, STDERR):
        raise ValueError(f"there is no stream {stream!r}")
    return stream


def head_size(limit: int) -> int:
    """The bytes of `limit` that are for the head. The rest is for the tail."""
    return limit - limit // 2


def assemble(chunks: Iterable[Chunk], limit: int, total: int) -> list[Piece]:
    """The pieces to show, in order: head and tail of an output of `total` bytes, and a count for the gap."""
    head_end = min(head_size(limit), total)
    tail_start = max(total - limit // 2, head_end)
    pieces: list[Piece] = []
    shown = 0
    for chunk in chunks:
        for start, end in ((0, head_end), (tail_start, total)):
            low, high = max(chunk.offset, start), min(chunk.offset + len(chunk.data), end)
            if low >= high:
                continue
            if low > shown:
                pieces.append(Piece(stream=COMBINED, omitted=low - shown))
            pieces.append(
                Piece(stream=chunk.stream, data=chunk.data[low - chunk.offset : high - chunk.offset])
            )
            shown = high
    if shown < total:
        pieces.append(Piece(stream=COMBINED, omitted=total - shown))
    return pieces


def between(pieces: Sequence[Piece], start: int, end: int) -> list[Piece]:
    """The pieces with the bytes from `start` to before `end`, which are offsets in the whole output."""
    found, at = list[Piece](), 0
    for piece in pieces:
        size = piece.omitted or len(piece.data)
        low, high = max(start, at) - at, min(end, at + size) - at
        at += size
        if low < high:
            omitted = high - low if piece.omitted else 0
            found.append(Piece(stream=piece.stream, data=piece.data[low:high], omitted=omitted))
    return found


def of_stream(pieces: Iterable[Piece], stream: int | None) -> list[Piece]:
    """The pieces of one stream (None: of all), and what is not kept: nobody knows to which stream it belonged."""
    return [piece for piece in pieces if piece.omitted or stream in (None, piece.stream)]


def last_lines(pieces: list[Piece], wanted: int) -> list[Piece]:
    """The pieces that contain the last lines; the first is cut. Each version of a rewritten line counts as a line."""
    gap = next((at for at in range(len(pieces) - 1, -1, -1) if pieces[at].omitted), -1)
    data = b"".join(piece.data for piece in pieces[gap + 1 :])
    starts = [0, *(end.end() for end in LINE_END.finditer(data) if end.end() < len(data))]
    if len(starts) <= wanted:
        return pieces[max(gap, 0) :]
    skipped, kept = starts[-wanted], list[Piece]()
    for piece in pieces[gap + 1 :]:
        if skipped < len(piece.data):
            kept.append(Piece(stream=piece.stream, data=piece.data[skipped:]))
        skipped = max(skipped - len(piece.data), 0)
    return kept


def surplus(kept: Sequence[tuple[int, int, int]], limit: int) -> tuple[int, int] | None:
    """The stored chunks between head and tail, to be deleted, as numbers `(after, before)`; None if there are none.

    `kept` lists `(n, offset, length)` of the stored chunks, in order.
    """
    if not kept:
        return None
    total = kept[-1][1] + kept[-1][2]
    head_end, tail_start = head_size(limit), total - limit // 2
    middle = [n for n, offset, length in kept if offset >= head_end and offset + length <= tail_start]
    return (middle[0] - 1, middle[-1] + 1) if middle else None
