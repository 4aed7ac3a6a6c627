"""The open streams of a server: their number, their end, and the response that sends one.

A stream ends when its output ends, when the client is gone, when the server ends, and when the token of its caller is
no longer valid.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Literal, get_args

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from queuectl.errors import StoreError
from queuectl.http.caller import Caller
from queuectl.http.live_output import LiveOutput
from queuectl.http.problem import Refusal
from queuectl.service.following import Position
from queuectl.service.queue import Queue

if TYPE_CHECKING:
    from queuectl.http.call import Call
    from queuectl.http.server_state import ServerState

MOST, MOST_OF_TOKEN = 512, 32
"""Open streams of a server, and of one token."""

CHECK = 2.0
"""Seconds between two checks whether the tokens of the open streams are still valid."""

Kind = Literal["output", "events"]
Reason = Literal["ending", "refused", "gone", "failed"]


class Stream:
    """One open stream. All methods must be called in the event loop.

    kind    what it sends: `output` or `events`
    holder  the name of the token; None for a caller without a token
    wake    is set when the stream is closed, or when there is something new to send
    closed  why the stream has to end, or None
    """

    def __init__(self, caller: Caller, kind: Kind, *, has_token: bool) -> None:
        self.caller, self.kind = caller, kind
        self.holder = caller.name if has_token else None
        self.wake = asyncio.Event()
        self.closed: Reason | None = None

    def close(self, reason: Reason) -> None:
        """Let the stream end. Only the first reason counts."""
        self.closed = self.closed or reason
        self.wake.set()


class Streams:
    """All open streams of a server, and the outputs that they follow. Used only in the event loop."""

    def __init__(self) -> None:
        self._open = set[Stream]()
        self._outputs: dict[tuple[str, int | None], LiveOutput] = {}
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def count(self) -> dict[str, int]:
        """The number of open streams, by kind."""
        kinds = [stream.kind for stream in self._open]
        return {kind: kinds.count(kind) for kind in get_args(Kind)}

    def open(self, call: "Call", kind: Kind) -> Stream:
        """A new stream of this caller. Raises a refusal if too many are open. `leave` must be called at its end."""
        stream = Stream(call.caller, kind, has_token="authorization" in call.headers)
        if len(self._open) >= MOST:
            raise Refusal("too_many", f"{MOST} streams of this server are open")
        if stream.holder and sum(each.holder == stream.holder for each in self._open) >= MOST_OF_TOKEN:
            raise Refusal("too_many", f"{MOST_OF_TOKEN} streams of {stream.holder} are open")
        self._open.add(stream)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(call.server))
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream that has ended."""
        self._open.discard(stream)

    def attend(self, stream: Stream, queue: Queue, id: str, attempt: int | None, at: Position) -> LiveOutput:
        """The live output of a job, shared by all its streams. It begins at `at` for the first of them."""
        output = self._outputs.get((id, attempt))
        if output is None or output.is_over:
            output = self._outputs[id, attempt] = LiveOutput(queue, id, attempt, at)
        output.wakes.add(stream.wake)
        return output

    def depart(self, stream: Stream, output: LiveOutput) -> None:
        """Stop following. An output that no stream follows is not read any more."""
        output.wakes.discard(stream.wake)
        if not output.wakes:
            output.stop()
            if self._outputs.get(output.key) is output:
                del self._outputs[output.key]

    async def _watch(self, state: "ServerState") -> None:
        """Close streams while any is open: all when the server ends, and those whose token is no longer valid."""
        while self._open:
            with suppress(TimeoutError):
                await asyncio.wait_for(state.ending.wait(), CHECK)
            if state.ending.is_set():
                self._close({stream.caller for stream in self._open}, "ending")
                return
            callers = {stream.caller for stream in self._open if stream.holder}
            loop = asyncio.get_running_loop()
            self._close(await loop.run_in_executor(state.pool, _refused, state, callers), "refused")

    def _close(self, callers: Collection[Caller], reason: Reason) -> None:
        for stream in self._open:
            if stream.caller in callers:
                stream.close(reason)


def _refused(state: "ServerState", callers: Collection[Caller]) -> set[Caller]:
    """The callers whose token is no longer valid. While the store does not answer, nobody is refused."""
    try:
        return {caller for caller in callers if not state.authenticator.admits(caller)}
    except StoreError:
        return set()


class StreamResponse(StreamingResponse):
    """The response that sends a stream and leaves it at the end.

    ends_cleanly  the client can see in the content whether it is complete; otherwise a stream that was closed is cut
                  off, without the end of the chunked encoding, so that the client does not take it for complete
    """

    def __init__(
        self,
        streams: Streams,
        stream: Stream,
        content: AsyncGenerator[bytes, None],
        headers: Mapping[str, str],
        media_type: str,
        *,
        ends_cleanly: bool,
    ) -> None:
        closing = {"Connection": "close", "X-Accel-Buffering": "no"}
        super().__init__(content, headers={**closing, **headers}, media_type=media_type)
        self._streams, self._stream, self._content, self._ends_cleanly = (
            streams,
            stream,
            content,
            ends_cleanly,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. A client that reads slowly delays this coroutine, and nothing else."""
        gone = asyncio.create_task(self._close_when_gone(receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async with aclosing(self._content) as parts:
                if scope["method"] != "HEAD":
                    async for part in parts:
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            if self._ends_cleanly or not self._stream.closed:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._streams.leave(self._stream)

    async def _close_when_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stream.close("gone")
