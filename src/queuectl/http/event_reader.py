"""Reads the events for one stream: from the store until it has caught up, then those that are kept in memory.

A slow reader falls behind the kept events and reads the store again, so that its memory does not grow. Events have an
order, so the change between the two needs no lock: a stream takes the kept events behind its own cursor.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from queuectl.errors import StoreError
from queuectl.http.event_feed import PAGE, Item, LiveEvents, Overview, item, lines
from queuectl.http.streaming import Stream
from queuectl.http.threads import in_thread
from queuectl.service.events import Selected, rank
from queuectl.service.queue import Queue
from queuectl.service.shapes.events import GAP

if TYPE_CHECKING:
    from queuectl.http.server_state import ServerState

BEAT = 5.0
"""Seconds between two lines that say that the store is away."""
QUIET_BEATS = 3
"""Beats without an event after which the reader says that it is still there."""
RETRY = 1.0
"""Seconds until the store is read again, while the kept events do not reach the cursor of the stream."""
AWAY = b": store away\n\n"


class EventReader:
    """The selected events behind a cursor, and overviews, as the lines of one stream.

    selected  None: no events
    """

    def __init__(
        self,
        state: "ServerState",
        stream: Stream,
        queue: Queue,
        at: str,
        selected: Selected | None,
        topics: Sequence[Overview] = (),
    ) -> None:
        self._state, self._stream, self._queue = state, stream, queue
        self._at, self._selected, self.topics = at, selected, topics
        self._sent = at
        """The cursor that the client has."""
        self._overviews: dict[Overview, bytes] = {}

    async def parts(self, live: LiveEvents) -> AsyncGenerator[bytes, None]:
        """Yields the lines until the stream is closed."""
        quiet = 0
        while not self._stream.closed:
            is_over = live.is_over  # read before the events, so that the last ones are not missed
            found = self._new_overviews(live)
            news = await self._news(live)
            for each in (*found, *(news or ())):
                yield each
            if found or news is not None:
                quiet = 0
            elif is_over:
                self._stream.close("failed")
            elif not await self._woken(BEAT):
                quiet += 1
                if live.is_away or quiet == QUIET_BEATS:
                    quiet = 0
                    yield AWAY if live.is_away else self._alive()

    def _new_overviews(self, live: LiveEvents) -> list[bytes]:
        found = list[bytes]()
        for topic in self.topics:
            shown = live.overview(topic)
            if shown is not None and shown != self._overviews.get(topic):
                self._overviews[topic] = shown
                found.append(shown)
        return found

    def _alive(self) -> bytes:
        """A comment, with the cursor if events were read that the stream does not send."""
        if self._at == self._sent:
            return b": no events\n\n"
        self._sent = self._at
        return f": no events\nid: {self._at}\n\n".encode()

    async def _news(self, live: LiveEvents) -> list[bytes] | None:
        """The lines of the next events; None if there are none, and then no other task has run meanwhile."""
        if self._selected is None:
            return None
        items = live.after(self._at)
        if items is None:
            return await self._stored(live, self._selected)
        if not items:
            return None
        wanted = await self._wanted(items, self._selected)
        if wanted is None:
            return [AWAY]
        self._at = items[-1].cursor
        return self._lines(wanted)

    async def _wanted(self, items: list[Item], selected: Selected) -> list[Item] | None:
        """The selected ones. For a filter the jobs are read, in one call; None if the store does not answer."""
        events = [(each.cursor, each.event) for each in items]
        if selected.where is None:
            kept = {cursor for cursor, _ in selected.of(events, self._queue.get)}
        else:
            found = await self._read(selected.of, events, self._queue.get)
            if found is None:
                return None
            kept = {cursor for cursor, _ in found}
        return [each for each in items if each.cursor in kept]

    async def _stored(self, live: LiveEvents, selected: Selected) -> list[bytes]:
        """A page of what the store has."""
        begin = live.start
        page = await self._read(self._queue.events().page, self._at, PAGE, selected)
        if page is None:
            return [AWAY]
        if page.next != self._at:
            self._at = page.next
        elif begin is not None and rank(begin) > rank(self._at):  # no event is between the two
            self._at = begin
        else:
            await self._woken(RETRY)
        found = self._lines([item(*each) for each in page.events])
        return [lines("events.gap", GAP), *found] if page.gap else found

    def _lines(self, items: list[Item]) -> list[bytes]:
        if items:
            self._sent = items[-1].cursor
        return [each.lines for each in items]

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the store in a thread. None if it does not answer, or the stream is closed meanwhile."""
        read = asyncio.ensure_future(in_thread(self._state, function, *arguments))
        read.add_done_callback(self._take)
        while not read.done():
            if self._stream.closed:
                return None
            await self._woken(BEAT)
        try:
            return read.result()
        except StoreError:
            await self._woken(BEAT)
            return None

    def _take(self, read: "asyncio.Future[Any]") -> None:
        """Wake the reader. The exception is taken here: nobody waits for the read of a stream that was closed."""
        if not read.cancelled():
            read.exception()
        self._stream.wake.set()

    async def _woken(self, seconds: float) -> bool:
        """Wait until the stream is woken. Returns False if the time is over."""
        if self._stream.closed:
            return True
        self._stream.wake.clear()
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._stream.wake.wait(), seconds)
        return False
