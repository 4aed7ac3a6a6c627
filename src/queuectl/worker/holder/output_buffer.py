"""What a command prints, between its pipe and the agent's acknowledgement.

Of an attempt the first half of `output_limit` is kept and shipped as it comes. After that only the newest
half is kept, and shipped at intervals; a byte that was pushed out before it could be shipped is only counted,
and the next chunk's offset tells the gap. At most one flush is under way unacknowledged (the last one
excepted), so that an agent that is slow or away costs at most twice the limit and never holds up the command.
"""

from collections.abc import Iterator
from typing import NamedTuple

from queuectl.worker.protocol import Output, encode

CHUNK = 256 << 10
FIRST_AFTER, HEAD_EVERY, TAIL_EVERY = 0.1, 0.2, 0.5
ENOUGH = 64 << 10
"""So many waiting bytes of the head are shipped without waiting for the interval."""
LAST = 400

_NEVER = float("inf")


class Flight(NamedTuple):
    """A chunk that was shipped and is not acknowledged: sent again, unchanged, to a new agent."""

    n: int
    frame: bytes
    size: int


class Stretch:
    """Bytes in a row that wait to be shipped; `streams` says whose each is, if streams are apart."""

    def __init__(self, split: bool) -> None:
        self.offset = 0
        self.data = bytearray()
        self.streams = bytearray() if split else None

    def append(self, stream: int, data: memoryview, offset: int) -> None:
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
        """Empty it into (stream, offset, bytes), none longer than a chunk."""
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


class Capture:
    """The output of one attempt. `total` counts every byte; `last` are the newest, for lists."""

    def __init__(self, attempt_id: str, job_id: str, limit: int, split: bool) -> None:
        self._ids = (attempt_id, job_id)
        self._tail_size = limit // 2
        self._head_size = limit - self._tail_size
        self._head, self._tail = Stretch(split), Stretch(split)
        self._n = 0
        self._due = _NEVER
        self.flights: list[Flight] = []
        self.total = 0
        self.last = b""

    def feed(self, stream: int, data: memoryview, now: float) -> None:
        """Take what was read from a pipe."""
        head_room = self._head_size - self.total
        if head_room > 0:
            self._head.append(stream, data[:head_room], self.total)
        if len(data) > head_room:
            self._feed_tail(stream, data[max(head_room, 0) :], self.total + max(head_room, 0))
        self.total += len(data)
        self.last = bytes(data[-LAST:]) if len(data) >= LAST else (self.last + data)[-LAST:]
        if len(self._head.data) >= ENOUGH:
            self._due = now
        elif self._due == _NEVER:
            self._due = now + (FIRST_AFTER if self._n == 0 else self._interval())

    def due(self) -> float:
        """When a flush is next wanted; never while one is under way or nothing waits."""
        return _NEVER if self.flights or not self._waiting() else self._due

    def flush(self, wall: float, now: float, *, final: bool = False) -> list[bytes]:
        """The frames to send now: all that is kept and not shipped, if it is time, or the last time."""
        if not final and (self.flights or now < self._due):
            return []
        self._tail.keep_last(self._tail_size)
        shipped = [
            self._chunk(wall, *piece) for stretch in (self._head, self._tail) for piece in stretch.take()
        ]
        self.flights += shipped
        self._due = _NEVER
        return [flight.frame for flight in shipped]

    def acknowledge(self, n: int, now: float) -> None:
        """Chunks up to `n` are stored."""
        self.flights = [flight for flight in self.flights if flight.n > n]
        if not self.flights and self._waiting():
            self._due = min(self._due, now + self._interval())

    def retained(self) -> int:
        """Bytes in memory on account of this output."""
        return self._waiting() + sum(flight.size for flight in self.flights)

    def _feed_tail(self, stream: int, data: memoryview, offset: int) -> None:
        self._tail.append(stream, data, offset)
        # Cutting at twice the size makes the moving of bytes cost one copy per byte.
        if len(self._tail.data) > 2 * self._tail_size + CHUNK:
            self._tail.keep_last(self._tail_size)

    def _waiting(self) -> int:
        return len(self._head.data) + len(self._tail.data)

    def _interval(self) -> float:
        if len(self._head.data) >= ENOUGH:
            return 0.0
        return HEAD_EVERY if self._head.data else TAIL_EVERY

    def _chunk(self, wall: float, stream: int, offset: int, data: bytes) -> Flight:
        self._n += 1
        return Flight(self._n, encode(Output(*self._ids, self._n, stream, wall, offset), data), len(data))
