"""Reads the output of one job for one stream: from the store until it has caught up, then from the live output.

A slow reader falls behind the live output and reads the store again, so that its memory does not grow.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from enum import Enum
from typing import TYPE_CHECKING

from queuectl.domain.job import Job
from queuectl.errors import StoreError
from queuectl.http.live_output import LiveOutput, size_of
from queuectl.http.streaming import Stream
from queuectl.service.following import Begin, End, Part, Position, rest_of
from queuectl.service.queue import Queue

if TYPE_CHECKING:
    from queuectl.http.server_state import ServerState

PAGE = 64 * 1024
"""Bytes of output that are read from the store before they are sent."""

BEAT = 5.0
"""Seconds between two lines that say that the store is away."""

QUIET_BEATS = 3
"""Beats without output after which the reader says that it is still there."""

RETRY = 1.0
"""Seconds until the store is read again after a failure, or when the live output has no part that fits."""


class Pause(Enum):
    """Why there is no output: the command prints nothing, or the store does not answer."""

    QUIET = "quiet"
    AWAY = "away"


class AtTheEnd(Exception):
    """All output so far has been read."""


class OutputReader:
    """The output of a job, or of one attempt, from a position on, for one stream."""

    def __init__(
        self, state: "ServerState", stream: Stream, id: str, attempt: int | None, at: Position
    ) -> None:
        self._state, self._stream = state, stream
        self._id, self._attempt, self._at = id, attempt, at
        self._ended = False

    async def parts(self) -> AsyncGenerator[Part | Pause, None]:
        """Yields the output until it ends, or the stream is closed."""
        while not self._stream.closed:
            for source in (self._stored(), self._live()):
                async with aclosing(source) as parts:
                    async for part in parts:
                        yield part
                if self._ended or self._stream.closed:
                    return

    async def _stored(self) -> AsyncGenerator[Part | Pause, None]:
        """Yields what the store has."""
        loop, caught_up, pages = asyncio.get_running_loop(), False, None
        while not caught_up:
            pages = pages or _Pages(self._state.queue, self._id, self._attempt, self._at)
            page = loop.run_in_executor(self._state.pool, pages.next)
            page.add_done_callback(self._take)
            while not await self._is_done(page):
                if self._stream.closed:
                    return
                yield Pause.AWAY
            try:
                found, caught_up = page.result()
            except StoreError:
                pages = None
                yield Pause.AWAY
                await self._wait(RETRY)
                if self._stream.closed:
                    return
                continue
            for part in found:
                self._note(part)
                yield part

    async def _live(self) -> AsyncGenerator[Part | Pause, None]:
        """Yields new output, until the reader is too far behind."""
        streams = self._state.streams
        output = streams.attend(self._stream, self._state.queue, self._id, self._attempt, self._at)
        try:
            cursor = output.cursor(self._at)
            if cursor is None:
                await self._wait(RETRY)
                return
            async with aclosing(self._news(output, cursor)) as parts:
                async for part in parts:
                    yield part
        finally:
            streams.depart(self._stream, output)

    async def _news(self, output: LiveOutput, cursor: int) -> AsyncGenerator[Part | Pause, None]:
        quiet = 0
        while not (self._stream.closed or self._ended):
            is_over = output.is_over  # read before the parts, so that the last ones are not missed
            if (news := output.after(cursor)) is None:
                return
            parts, cursor = news
            for each in parts:
                if (part := self._unread(each)) is not None:
                    self._note(part)
                    yield part
            if parts:
                quiet = 0
            elif is_over:
                self._stream.close("failed")
            else:
                quiet += not await self._wait(BEAT)
                if output.is_away or quiet == QUIET_BEATS:
                    quiet = 0
                    yield Pause.AWAY if output.is_away else Pause.QUIET

    def _note(self, part: Part) -> None:
        self._at = self._at.after(part)
        self._ended = isinstance(part, End)

    def _unread(self, part: Part) -> Part | None:
        """The part without what was read already; None if nothing is left."""
        if isinstance(part, End) or part.attempt_id != self._at.attempt_id:
            return part
        return None if isinstance(part, Begin) else rest_of(part, self._at.offset)

    async def _wait(self, seconds: float) -> bool:
        """Wait until the stream is woken. Returns False if the time is over."""
        if self._stream.closed:
            return True
        self._stream.wake.clear()
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._stream.wake.wait(), seconds)
        return False

    async def _is_done(self, page: "asyncio.Future[tuple[list[Part], bool]]") -> bool:
        """Wait for a page at most one beat, or until the stream is closed."""
        if not page.done():
            await self._wait(BEAT)
        return page.done()

    def _take(self, page: "asyncio.Future[tuple[list[Part], bool]]") -> None:
        """Wake the reader. The exception is taken here: nobody waits for the page of a stream that was closed."""
        if not page.cancelled():
            page.exception()
        self._stream.wake.set()


class _Pages:
    """The stored output in pages. `next` is called in a thread of the pool."""

    def __init__(self, queue: Queue, id: str, attempt: int | None, at: Position) -> None:
        self._parts = queue.follow(id, attempt=attempt, after=at, look=_stop)

    def next(self) -> tuple[list[Part], bool]:
        """The parts of the next page, and whether these are the last ones so far."""
        page, size = list[Part](), 0
        try:
            for part in self._parts:
                page.append(part)
                size += size_of(part)
                if size >= PAGE:
                    return page, False
        except AtTheEnd:
            return page, True
        return page, True


def _stop(_job: Job) -> None:
    raise AtTheEnd
