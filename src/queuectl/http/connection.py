"""One connection with bounds in time: the phase in which it is, the pace of the reader, and the reply of a refusal."""

from asyncio import TimerHandle
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from queuectl.http.problem import Refusal, raw_reply
from queuectl.http.wire_limits import WireLimits


class TimedProtocol(HttpToolsProtocol):
    """The phase of a connection says what it receives: a `head`, a `body`, or nothing (`idle`). It may have a time.

    A client that reads too slowly what waits to be sent is cut off: each one would keep a whole reply in memory.
    """

    def __init__(self, limits: WireLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits, self._phase = limits, "idle"
        self._timer: TimerHandle | None = None
        self._pace: TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._enter("lost")
        self._forget_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_reader()

    def _enter(self, phase: str, seconds: float = 0.0, then: Callable[[], None] | None = None) -> None:
        """Change the phase. `then` is called if it lasts so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self._phase = phase
        self._timer = self.loop.call_later(seconds, then) if then else None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, refusal: Refusal) -> None:
        """Reply and close. No reply is sent if a client would take it for the answer of another request."""
        answers = self._is_answering()
        is_own = answers and self._phase == "body" and not self.cycle.response_started and not self.pipeline
        if self.transport.is_closing() or not (is_own or (not answers and self._phase == "head")):
            self.transport.abort()
            return
        if answers:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(raw_reply(refusal))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()  # closing at once would reset the connection before the client has read the reply
        self._enter("refused", self._limits.linger, self.transport.close)

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
