"""The event stream of an output: `id: ATTEMPT:OFFSET` is the position after the event."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from queuectl.domain.output import Chunk
from queuectl.http.output_reader import Pause
from queuectl.service.following import Begin, End, Part, Position
from queuectl.service.shapes import output as shapes

FIRST = ": queuectl\nretry: 2000\nid: {}\n\n"
"""Sent at once, so that a client sees that no proxy keeps the stream back. A client that loses the stream before the
first event goes on at this id: the attempts that begin until then are not missed."""

BYE = b"event: bye\nretry: 1000\ndata: {}\n\n"
"""The server ends; the client connects again."""

PAUSES = {Pause.QUIET: b": no output\n\n", Pause.AWAY: b": store away\n\n"}

PIECE = 32 * 1024
"""Bytes of output in one event, at most."""

ENDED = "end"
"""Stands for the attempt in the id of the last event: a client that comes back with it has everything."""


class OutputEvents:
    """Makes the events of one stream. The end of an incomplete character waits for the next bytes of its stream."""

    def __init__(self, at: Position, only: int | None) -> None:
        self._at, self._only = at, only
        self._kept: Chunk | None = None

    @property
    def first(self) -> bytes:
        """The beginning of the stream."""
        return FIRST.format(shapes.event_id(self._at)).encode()

    def of(self, part: Part | Pause) -> Iterator[bytes]:
        """Yields the events of this part. They are made one by one: a slow reader must not fill the memory."""
        if isinstance(part, Pause):
            yield PAUSES[part]
        elif isinstance(part, Chunk):
            yield from self._output(part)
        else:
            yield from self._rest()
            yield self._begin(part) if isinstance(part, Begin) else self._end(part)

    def _begin(self, begin: Begin) -> bytes:
        """The event that names the attempt of the next output. Without `started_at` it may still be given back."""
        self._at = self._at.after(begin)
        after = self._at if begin.started_at else self._at._replace(attempt_id="")
        return self._event("attempt", shapes.begin(begin), after)

    def _end(self, end: End) -> bytes:
        shown = shapes.end(end.job, self._at.attempt_id)
        return self._event("end", shown, self._at._replace(attempt_id=ENDED))

    def _output(self, chunk: Chunk) -> Iterator[bytes]:
        if chunk.offset > self._expected:
            yield from self._rest()
            gap = {"from": self._at.offset, "to": chunk.offset}
            self._at = self._at._replace(offset=chunk.offset)
            yield self._event("omitted", gap, self._at)
        if self._only not in (None, chunk.stream):
            yield from self._rest()
            self._at = self._at.after(chunk)
            return
        if self._kept and self._kept.stream == chunk.stream:
            chunk = replace(chunk, offset=self._kept.offset, data=self._kept.data + chunk.data)
            self._kept = None
        yield from self._rest()
        yield from self._pieces(chunk)

    @property
    def _expected(self) -> int:
        """The offset in the output of the attempt at which the next chunk should begin."""
        return self._at.offset + (len(self._kept.data) if self._kept else 0)

    def _pieces(self, chunk: Chunk) -> Iterator[bytes]:
        end = len(chunk.data) - incomplete(chunk.data)
        at = 0
        while at < end:
            data = chunk.data[at : min(at + PIECE, end)]
            if at + len(data) < end:
                data = data[: len(data) - incomplete(data)]
            yield self._piece(replace(chunk, offset=chunk.offset + at, data=data))
            at += len(data)
        if end < len(chunk.data):
            self._kept = replace(chunk, offset=chunk.offset + end, data=chunk.data[end:])

    def _rest(self) -> Iterator[bytes]:
        """The kept bytes, which cannot become a character any more."""
        if self._kept:
            kept, self._kept = self._kept, None
            yield self._piece(kept)

    def _piece(self, chunk: Chunk) -> bytes:
        self._at = self._at.after(chunk)
        return self._event("output", shapes.chunk(chunk), self._at)

    def _event(self, name: str, data: dict[str, Any], after: Position) -> bytes:
        head = f"id: {shapes.event_id(after)}\nevent: {name}\ndata: "
        return head.encode() + msgspec.json.encode(data) + b"\n\n"


def incomplete(data: bytes) -> int:
    """Count the bytes at the end that belong to an incomplete UTF-8 character: 0 to 3."""
    for count in range(1, min(3, len(data)) + 1):
        byte = data[-count]
        if byte & 0xC0 != 0x80:
            length = (
                2 if 0xC2 <= byte <= 0xDF else 3 if 0xE0 <= byte <= 0xEF else 4 if 0xF0 <= byte <= 0xF4 else 1
            )
            return count if length > count else 0
    return 0
