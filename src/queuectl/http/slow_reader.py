"""A client that does not read its replies: without a bound in time each one keeps a whole reply in memory."""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from queuectl.http.wire_limits import WireLimits


class PacedProtocol(HttpToolsProtocol):
    """A connection that is ended if the client reads too slowly what is waiting to be sent."""

    def __init__(self, limits: WireLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._pace: TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_reader()

    def _watch_reader(self) -> None:
        # Nothing is written while writing is paused, so the buffer shrinks by what the client reads.
        left = self.transport.get_write_buffer_size()
        self._pace = self.loop.call_later(self._limits.body_time, self._check_reader, left)

    def _check_reader(self, before: int) -> None:
        read = before - self.transport.get_write_buffer_size()
        if read < self._limits.body_rate * self._limits.body_time:
            self.transport.abort()
        else:
            self._watch_reader()

    def _forget_reader(self) -> None:
        if self._pace is not None:
            self._pace.cancel()
