"""The HTTP protocol of uvicorn with what it lacks: bounds in time and size for heads and bodies, and a strict head."""

from asyncio import Transport
from typing import Any

from queuectl.http.connection import TimedProtocol
from queuectl.http.problem import Refusal
from queuectl.http.wire_limits import Admission, Connections, check_head


class GuardedProtocol(TimedProtocol):
    """Judges what a client sends.

    `_unread` counts bytes since the parser last made progress: it collects a header, or a trailer of a chunked body, as
    a whole before it reports one, so that without this bound a single line could fill the memory.

    admission  of a connection that was counted before; None for one that is counted when it is made
    """

    def __init__(self, connections: Connections, admission: Admission | None = None, **options: Any) -> None:
        super().__init__(connections.limits, **options)
        self._connections, self._progress, self._unread, self._received = connections, 0, 0, 0
        self._given = admission
        self._refusal = Refusal("invalid_input", "the request is not HTTP/1.1")

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._admission = self._given or self._connections.admit(self.client[0] if self.client else "")
        self._admission.close = transport.abort
        self._head_time = self._limits.time_of_head(probes_only=self._admission.probes_only)
        self._enter("idle", self._head_time, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self._admission)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase == "refused":
            return
        if self._phase == "idle" and not self._is_answering():
            self._begin_head()  # also for an empty line: it would stop the time of an idle connection
        before = self._progress
        super().data_received(data)
        self._unread = self._unread + len(data) if self._progress == before else 0
        if self._unread > self._limits.head and self._phase != "refused":
            self._refuse(Refusal("too_large", "the head of the request is too long", status=431))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._progress += 1
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase == "head":  # a trailer of a chunked body is ignored: the head was checked without it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        probes_only, upgrades = self._admission.probes_only, self.parser.should_upgrade()
        only = self._connections.probes if probes_only else ()
        refusal = check_head(self._limits, self.url, self.headers, only=only, upgrades=upgrades)
        if refusal:
            self._refusal = refusal
            raise refusal  # the parser stops, and `send_400_response` is called
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and not probes_only and not upgrades
        self._progress += 1
        self._await_body()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._progress, self._received = self._progress + 1, self._received + len(body)
        if self.cycle.response_complete and self._received > self._limits.unused_body:
            self.transport.abort()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._progress += 1
        self._enter("idle")
        if self.cycle.response_complete:  # the rest of the body has stopped uvicorn's own timer
            self._enter("idle", self._limits.idle_time, self.transport.close)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words
        self._refuse(self._refusal)

    def _begin_head(self) -> None:
        if self._phase != "head":
            slow = Refusal("invalid_input", "the head of the request comes too slowly", status=408)
            self._enter("head", self._head_time, lambda: self._refuse(slow))

    def _await_body(self) -> None:
        self._received = 0
        self._enter("body", self._limits.body_time, self._check_body)

    def _check_body(self) -> None:
        waits_for_us = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if waits_for_us or self._received >= self._limits.body_rate * self._limits.body_time:
            self._await_body()
        else:
            self._refuse(Refusal("invalid_input", "the body of the request comes too slowly", status=408))
