"""Buffers the output of a command between its pipe and the agent's acknowledgement.

The first half of an attempt's `output_limit` (the head) is kept and sent immediately. After that only the newest half
(the tail) is kept, and sent at intervals. A byte that leaves the tail before it was sent is only counted; the offset
of the next chunk shows the gap.

Invariant: at most one batch of chunks is sent and unacknowledged, except for the last batch of an attempt. Otherwise
the holder would keep the whole output of `yes` while the agent is slow or missing. With the invariant an attempt
takes at most twice its limit, and a command never waits for the agent. Test:
`test_memory_is_bounded_without_acknowledgements`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from queuectl.worker.holder.timers import NEVER
from queuectl.worker.protocol import Output, encode

CHUNK = 256 << 10
FIRST_AFTER, HEAD_INTERVAL, TAIL_INTERVAL = 0.1, 0.2, 0.5
"""Seconds from new output to its sending: for the first chunk, while the head fills, and after that."""
SEND_AT_ONCE = 64 << 10
"""If this many bytes of the head are unsent, they are sent without waiting for the interval."""
LAST = 400


class SentChunk(NamedTuple):
    """An unacknowledged chunk. A new agent receives the same frame again, and recognises the repetition."""

    n: int
    frame: bytes
    size: int


class Segment:
    """Consecutive unsent bytes. With `split`, `streams` contains the stream of each byte."""

    def __init__(self, split: bool) -> None:
        self.offset = 0
        self.data = bytearray()
        self.streams = bytearray() if split else None

    def append(self, stream: int, data: memoryview, offset: int) -> None:
        """Add output of a command; `offset` is its position in the whole output."""
        if not self.data:
            self.offset = offset
        self.data += data
        if self.streams is not None:
            self.streams += bytes((stream,)) * len(data)

    def keep_last(self, count: int) -> None:
        """Forget all but the last `count` bytes."""
        surplus = len(self.data) - count
        if surplus <= 0:
            return
        self.offset += surplus
        del self.data[:surplus]
        if self.streams is not None:
            del self.streams[:surplus]

    def take(self) -> Iterator[tuple[int, int, bytes]]:
        """Empty the segment. Yields (stream, offset, bytes): each item is at most one chunk, of one stream."""
        data, streams, at = self.data, self.streams, 0
        self.data, self.streams = bytearray(), None if streams is None else bytearray()
        while at < len(data):
            end, stream = min(at + CHUNK, len(data)), 0
            if streams is not None:
                stream = streams[at]
                other = streams.find(3 - stream, at, end)
                end = other if other >= 0 else end
            yield stream, self.offset + at, bytes(data[at:end])
            at = end


class OutputBuffer:
    """The output of one attempt. `total` counts all bytes. `last` contains the newest bytes, for lists of jobs."""

    def __init__(self, attempt_id: str, job_id: str, limit: int, split: bool) -> None:
        self._ids = (attempt_id, job_id)
        self._tail_size = limit // 2
        self._head_size = limit - self._tail_size
        self._head, self._tail = Segment(split), Segment(split)
        self._n = 0
        self._send_at = NEVER
        self.unacknowledged: list[SentChunk] = []
        self.total = 0
        self.last = b""

    def feed(self, stream: int, data: memoryview, now: float) -> None:
        """Add the bytes that were read from a pipe."""
        head_room = self._head_size - self.total
        if head_room > 0:
            self._head.append(stream, data[:head_room], self.total)
        if len(data) > head_room:
            self._feed_tail(stream, data[max(head_room, 0) :], self.total + max(head_room, 0))
        self.total += len(data)
        self.last = bytes(data[-LAST:]) if len(data) >= LAST else (self.last + data)[-LAST:]
        if len(self._head.data) >= SEND_AT_ONCE:
            self._send_at = now
        elif self._send_at == NEVER:
            self._send_at = now + (FIRST_AFTER if self._n == 0 else self._interval())

    def due(self) -> float:
        """When `flush` must be called. NEVER while a batch is unacknowledged, or if nothing is unsent."""
        return NEVER if self.unacknowledged or not self._unsent() else self._send_at

    def flush(self, wall: float, now: float, *, final: bool = False) -> list[bytes]:
        """The frames to send now, if any are due. `final`: send the rest now."""
        if not self._unsent() or (not final and (self.unacknowledged or now < self._send_at)):
            return []
        self._tail.keep_last(self._tail_size)
        sent = [self._chunk(wall, *piece) for segment in (self._head, self._tail) for piece in segment.take()]
        self.unacknowledged += sent
        self._send_at = NEVER
        return [chunk.frame for chunk in sent]

    def acknowledge(self, n: int, now: float) -> None:
        """Forget the chunks up to number `n`, because they are stored."""
        self.unacknowledged = [chunk for chunk in self.unacknowledged if chunk.n > n]
        if not self.unacknowledged and self._unsent():
            self._send_at = min(self._send_at, now + self._interval())

    def size(self) -> int:
        """The memory of this output in bytes."""
        unsent = self._unsent()
        return unsent + sum(chunk.size for chunk in self.unacknowledged) if self.unacknowledged else unsent

    def _feed_tail(self, stream: int, data: memoryview, offset: int) -> None:
        self._tail.append(stream, data, offset)
        # The tail is cut only at twice its size, so that each byte is moved at most once.
        if len(self._tail.data) > 2 * self._tail_size + CHUNK:
            self._tail.keep_last(self._tail_size)

    def _unsent(self) -> int:
        return len(self._head.data) + len(self._tail.data)

    def _interval(self) -> float:
        if len(self._head.data) >= SEND_AT_ONCE:
            return 0.0
        return HEAD_INTERVAL if self._head.data else TAIL_INTERVAL

    def _chunk(self, wall: float, stream: int, offset: int, data: bytes) -> SentChunk:
        self._n += 1
        return SentChunk(self._n, encode(Output(*self._ids, self._n, stream, wall, offset), data), len(data))
