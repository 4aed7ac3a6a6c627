"""Detects when a server has answered completely, so that a proxy can lose whole replies."""

import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Talk(Protocol):
    """One connection's bytes, as they pass by."""

    def sent(self, data: bytes) -> None:
        """Process bytes of the client."""

    def answered(self, data: bytes) -> None:
        """Process bytes of the server."""

    def settled(self) -> bool:
        """Whether the server has answered all requests so far."""


class AnyTalk:
    """A protocol that we do not understand: who has begun to answer and then is silent for a while has answered."""

    SILENCE = 0.05

    def __init__(self) -> None:
        self._last_answer: float | None = None

    def sent(self, data: bytes) -> None:  # noqa: ARG002
        self._last_answer = None

    def answered(self, data: bytes) -> None:  # noqa: ARG002
        self._last_answer = time.monotonic()

    def settled(self) -> bool:
        return self._last_answer is not None and time.monotonic() - self._last_answer > self.SILENCE


class PostgresTalk:
    """PostgreSQL's protocol: for each Query, Sync or FunctionCall there is one ReadyForQuery, however many are due.

    Only the heads of messages are looked at: a letter and a length. Before the login there are packets without a
    letter, and those that ask for encryption are answered with one letter and no length.
    """

    LETTER_AND_LENGTH = struct.Struct("!cI")
    LENGTH_AND_CODE = struct.Struct("!II")
    ENCRYPTION_CODES = (80877103, 80877104)
    CANCEL_CODE = 80877102

    ENDING = b"QSF"  # Query, Sync, FunctionCall
    OPENING = b"PBDEC"  # Parse, Bind, Describe, Execute, Close: a Sync is still to come
    FLUSH = b"H"  # a client that sends FLUSH before the Sync waits for the results so far

    def __init__(self) -> None:
        self._said = bytearray()
        self._heard = bytearray()
        self._logged_in = False
        self._single_letters = 0
        self._owed = 0
        self._sync_is_to_come = False
        self._so_far: AnyTalk | None = None

    def sent(self, data: bytes) -> None:
        self._said += data
        while not self._logged_in and self._take_packet():
            pass
        for letter in self._letters(self._said) if self._logged_in else ():
            self._owed += letter in self.ENDING
            if letter in self.ENDING + self.OPENING:
                self._sync_is_to_come = letter in self.OPENING
                self._so_far = None
            elif letter == self.FLUSH and self._sync_is_to_come:
                self._so_far = AnyTalk()

    def answered(self, data: bytes) -> None:
        self._heard += data
        if self._so_far:
            self._so_far.answered(data)
        letters = min(self._single_letters, len(self._heard))
        self._single_letters -= letters
        del self._heard[:letters]
        self._owed -= sum(letter == b"Z" for letter in self._letters(self._heard))

    def settled(self) -> bool:
        if self._said:  # half a message has not been answered yet
            return False
        if self._so_far:
            return self._owed == 0 and self._so_far.settled()
        return self._owed == 0 and not self._sync_is_to_come

    def _take_packet(self) -> bool:
        """Read one packet without a type letter; returns whether a packet was complete."""
        if len(self._said) < self.LENGTH_AND_CODE.size:
            return False
        length, code = self.LENGTH_AND_CODE.unpack_from(self._said)
        if len(self._said) < length:
            return False
        del self._said[:length]
        self._single_letters += code in self.ENCRYPTION_CODES
        self._logged_in = code not in (*self.ENCRYPTION_CODES, self.CANCEL_CODE)
        self._owed += self._logged_in
        return True

    def _letters(self, stream: bytearray) -> list[bytes]:
        """Take the complete messages out of a stream; their letters."""
        letters, start = [], 0
        while len(stream) - start >= self.LETTER_AND_LENGTH.size:
            letter, length = self.LETTER_AND_LENGTH.unpack_from(stream, start)
            if len(stream) - start <= length:
                break
            letters.append(letter)
            start += 1 + length
        del stream[:start]
        return letters


class MongoTalk:
    """MongoDB's protocol: each request has one reply that names it, except those that are marked as needing none.

    Only the heads of messages are looked at. Whoever asks for a stream of replies, as a client does that watches a
    server, has been answered with the first; the later ones answer replies and no request. A request that is
    compressed hides whether it wants a reply: it is taken to.
    """

    HEAD = struct.Struct("<iiii")
    """The length of all, the number of this message, the number of the one it answers, and what kind it is."""

    FLAGS = struct.Struct("<I")
    QUERY, COMPRESSED, MESSAGE = 2004, 2012, 2013
    MORE_TO_COME = 2  # among the flags of a MESSAGE: the next comes unasked

    def __init__(self) -> None:
        self._said = bytearray()
        self._heard = bytearray()
        self._owed: set[int] = set()

    def sent(self, data: bytes) -> None:
        self._said += data
        for number, _, kind, flags in self._heads(self._said):
            if kind in (self.QUERY, self.COMPRESSED, self.MESSAGE) and not flags & self.MORE_TO_COME:
                self._owed.add(number)

    def answered(self, data: bytes) -> None:
        self._heard += data
        self._owed.difference_update(answered for _, answered, _, _ in self._heads(self._heard))

    def settled(self) -> bool:
        return not self._owed and not self._said

    def _heads(self, stream: bytearray) -> Iterator[tuple[int, int, int, int]]:
        """Take the complete messages out of a stream; of each its number, what it answers, its kind and its flags."""
        while len(stream) >= self.HEAD.size:
            length, number, answered, kind = self.HEAD.unpack_from(stream)
            if len(stream) < length:
                break
            flags = self.FLAGS.unpack_from(stream, self.HEAD.size)[0] if kind == self.MESSAGE else 0
            del stream[: max(length, self.HEAD.size)]
            yield number, answered, kind, flags


class RedisTalk:
    """Redis's protocol, the second version of it: requests are answered in their order, by one reply each.

    But for a subscription, which is answered once for each channel, or by one error. What is published there comes
    unasked. Who asks for no replies (CLIENT REPLY) or for all that others say (MONITOR) is not understood.
    """

    PUBLISHED = (b"message", b"pmessage", b"smessage")

    def __init__(self) -> None:
        self._said = RedisValues()
        self._heard = RedisValues()
        self._owed: deque[int] = deque()
        self._channels: dict[bytes, set[bytes]] = {}

    def sent(self, data: bytes) -> None:
        for kind, content in self._said.take(data):
            if kind == b"*" and content:
                self._owed.append(self._replies_to([word for _, word in content]))
            elif content:  # a line, as people type it
                self._owed.append(1)

    def answered(self, data: bytes) -> None:
        for kind, content in self._heard.take(data):
            if not self._owed or self._is_published(kind, content):
                continue
            self._owed[0] -= self._owed[0] if kind == b"-" else 1
            if self._owed[0] == 0:
                self._owed.popleft()

    def settled(self) -> bool:
        return not self._owed and not self._said.is_within_one

    def _replies_to(self, words: Sequence[bytes]) -> int:
        """The number of replies that a request needs."""
        verb, names = words[0].upper(), words[1:]
        if not verb.endswith(b"SUBSCRIBE"):
            return 1
        beginning = verb.removesuffix(b"SUBSCRIBE")
        known = self._channels.setdefault(beginning.removesuffix(b"UN"), set())
        if beginning.endswith(b"UN"):
            names = names or list(known)  # a command without names means all channels
            known.difference_update(names)
        else:
            known.update(names)
        return max(1, len(names))

    def _is_published(self, kind: bytes, content: Any) -> bool:
        """Whether this came unasked; only to who has ever subscribed."""
        return bool(self._channels and kind == b"*" and content and content[0][1] in self.PUBLISHED)


class RedisValues:
    """One direction of a connection to Redis, cut into values: of each its kind, a byte, and what it holds.

    An array holds values, everything else bytes. Each byte is looked at once, however a long array may be cut up.
    """

    Value = tuple[bytes, Any]

    def __init__(self) -> None:
        self._rest = bytearray()
        self._open: list[tuple[int, list[RedisValues.Value]]] = []

    @property
    def is_within_one(self) -> bool:
        """Whether a value has begun and is not complete."""
        return bool(self._rest or self._open)

    def take(self, data: bytes) -> Iterator["RedisValues.Value"]:
        """The values that are complete with these bytes."""
        self._rest += data
        while (head := self._take_head()) is not None:
            kind, content = head
            if kind == b"*" and int(content) > 0:
                self._open.append((int(content), []))
                continue
            value = (kind, []) if kind == b"*" else (kind, content)
            yield from self._close_with(value)

    def _take_head(self) -> tuple[bytes, bytes] | None:
        """The next value, but of an array only how long it is; None where it is not complete."""
        end = self._rest.find(b"\r\n")
        if end < 0:
            return None
        kind, content = bytes(self._rest[:1]), bytes(self._rest[1:end])
        after = end + 2
        if kind == b"$" and int(content) >= 0:
            start, after = after, after + int(content) + 2
            if len(self._rest) < after:
                return None
            content = bytes(self._rest[start : after - 2])
        del self._rest[:after]
        return kind, content

    def _close_with(self, value: "RedisValues.Value") -> Iterator["RedisValues.Value"]:
        """Add a value to its array; returns the outermost value that is now complete."""
        while self._open:
            length, values = self._open[-1]
            values.append(value)
            if len(values) < length:
                return
            self._open.pop()
            value = (b"*", values)
        yield value
