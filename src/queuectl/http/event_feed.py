"""The newest events while streams follow them: one thread reads them from the store, however many streams there are."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import takewhile
from typing import Any, Literal

import msgspec
from msgspec import Struct

from queuectl.clock import boottime
from queuectl.domain.event import Event
from queuectl.domain.query import Filter
from queuectl.errors import StoreError
from queuectl.http.streaming import Stream
from queuectl.service.events import rank
from queuectl.service.queue import Queue
from queuectl.service.shapes import events as shapes
from queuectl.service.shapes import overview
from queuectl.service.shapes.record import document

KEPT = 1000
"""Events that are kept. A stream that is further behind reads the store."""
PAGE = 100
"""Events that one stream takes at once."""
SILENCE = 3.0
"""Seconds without a completed read after which the store counts as away. A read is made at least once a second."""
RETRY = 1.0
"""Seconds after a failed read."""
OVERVIEW = 1.0
"""Seconds between two reads of an overview."""

Overview = Literal["counts", "queues", "workers"]


class NobodyReads(Exception):
    """Ends the thread."""


class Item(Struct, frozen=True):
    """One event, with its cursor and the lines of a stream. All streams share them."""

    cursor: str
    rank: tuple[int, ...]
    event: Event
    lines: bytes


def item(cursor: str, event: Event) -> Item:
    """An event as a stream sends it."""
    return Item(cursor, rank(cursor), event, lines(event.event, shapes.event(cursor, event), cursor))


def lines(name: str, shown: Mapping[str, Any], cursor: str | None = None) -> bytes:
    """The lines of one event of a stream."""
    head = f"id: {cursor}\n" if cursor is not None else ""
    return f"{head}event: {name}\ndata: ".encode() + msgspec.json.encode(shown) + b"\n\n"


class EventFeed:
    """The newest events of a queue. The first stream starts the thread, and the last one ends it.

    `attend` and `depart` must be called in the event loop. The other methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._streams: dict[Stream, frozenset[Overview]] = {}
        self._reader: LiveEvents | None = None

    @property
    def end(self) -> str | None:
        """The cursor behind the last event that was read; None if nobody follows the events."""
        return self._reader.end if self._reader is not None else None

    def attend(self, stream: Stream, queue: Queue, begin: str, topics: frozenset[Overview]) -> "LiveEvents":
        """Wake a stream when there is something new. Without other streams, the events are read from `begin` on."""
        if self._reader is None or self._reader.is_over:
            self._reader = LiveEvents(queue, begin, self._wake)
            self._reader.begin()
        self._streams[stream] = topics
        self._reader.topics = frozenset[Overview]().union(*self._streams.values())
        return self._reader

    def depart(self, stream: Stream) -> None:
        """Wake a stream no longer."""
        self._streams.pop(stream, None)
        if self._reader is None:
            return
        self._reader.topics = frozenset[Overview]().union(*self._streams.values())
        if not self._streams:
            self._reader.stop()
            self._reader = None

    def _wake(self) -> None:
        for stream in self._streams:
            stream.wake.set()


class LiveEvents:
    """The thread, and what it has read.

    topics   the overviews that some stream wants
    is_over  the thread has ended
    """

    def __init__(self, queue: Queue, begin: str, wake: Callable[[], None]) -> None:
        self.topics = frozenset[Overview]()
        self.is_over = False
        self._queue, self._wake_all = queue, wake
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._items = deque[Item]()
        self._start: str | None = begin
        self._end = begin
        self._has_news = False
        self._overviews: dict[Overview, bytes] = {}
        self._seen_overviews_at = -OVERVIEW
        self._stopped = threading.Event()
        self._failed, self._seen_at = False, boottime()

    def begin(self) -> None:
        """Start the thread. It may wait a second for events, for which the end of the process does not wait."""
        threading.Thread(target=self._run, name="queuectl-events", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end with its present read."""
        self._stopped.set()

    @property
    def end(self) -> str:
        """The cursor behind the last event that was read."""
        return self._end

    @property
    def is_away(self) -> bool:
        """Whether the store does not answer."""
        return self._failed or boottime() - self._seen_at > SILENCE

    @property
    def start(self) -> str | None:
        """The feed keeps every event after this cursor. None until the feed has its first event."""
        with self._lock:
            return self._start

    def after(self, cursor: str) -> list[Item] | None:
        """The next events behind a cursor, at most `PAGE`.

        None if the store has to be read: some of them are not kept any more, or the cursor was not reached yet.
        """
        at = rank(cursor)
        with self._lock:
            if self._start is None or not rank(self._start) <= at <= rank(self._end):
                return None
            found = list(takewhile(lambda each: each.rank > at, reversed(self._items)))
        return found[: -PAGE - 1 : -1]

    def overview(self, topic: Overview) -> bytes | None:
        """The newest lines of an overview; None if it was not read yet."""
        return self._overviews.get(topic)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._follow()
                except StoreError:
                    self._failed = True
                    self._stopped.wait(RETRY)
        except NobodyReads:
            return
        finally:
            self.is_over = True
            self._wake()

    def _follow(self) -> None:
        for each in self._queue.events().follow(self._end, look=self._look):
            with self._lock:
                self._add(each)
            self._has_news = True

    def _add(self, each: tuple[str, Event] | None) -> None:
        if each is None:
            self._items.clear()
            self._start = None
            return
        self._end = each[0]
        if (
            self._start is None
        ):  # streams read the store up to this event, and see there that events were deleted
            self._start = each[0]
            return
        self._items.append(item(*each))
        if len(self._items) > KEPT:
            self._start = self._items.popleft().cursor

    def _look(self, answers: bool) -> None:
        if self._stopped.is_set():
            raise NobodyReads
        self._failed = not answers
        if answers:
            self._seen_at = boottime()
            self._read_overviews()
        if self._has_news:
            self._has_news = False
            self._wake()

    def _read_overviews(self) -> None:
        topics = self.topics
        if not topics or boottime() - self._seen_overviews_at < OVERVIEW:
            return
        for topic in topics:
            found = lines(topic, OVERVIEWS[topic](self._queue))
            if self._overviews.get(topic) != found:
                self._overviews[topic] = found
                self._has_news = True
        self._seen_overviews_at = boottime()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._wake_all)


def _counts(queue: Queue) -> Mapping[str, Any]:
    return overview.counted(queue.counts(Filter()))


def _queues(queue: Queue) -> Mapping[str, Any]:
    keys = ("name", "paused", "limit", "reason")
    return document(queues=[{key: getattr(each, key) for key in keys} for each in queue.queues()])


def _workers(queue: Queue) -> Mapping[str, Any]:
    shown = [
        {"id": each.worker.id, "name": each.worker.name, "state": each.state} for each in queue.workers()
    ]
    return document(workers=shown)


OVERVIEWS: Mapping[Overview, Callable[[Queue], Mapping[str, Any]]] = {
    "counts": _counts,
    "queues": _queues,
    "workers": _workers,
}
"""The documents of the topics: the number of jobs per queue and state, the settings of the queues, the workers. They
contain nothing that changes by itself, such as an age."""
