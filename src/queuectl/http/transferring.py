"""Sends an export as it is read from the store, and imports the body of a request while it arrives."""

import asyncio
import io
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from time import monotonic
from typing import Any, BinaryIO, cast

from starlette.requests import ClientDisconnect, Request

from queuectl.errors import QueuectlError, Unauthenticated
from queuectl.http.body import too_large
from queuectl.http.call import Call
from queuectl.http.compression import LEVEL
from queuectl.http.problem import Refusal
from queuectl.http.threads import in_time
from queuectl.service.transfer.running import Import
from queuectl.service.transfer.tally import shown

PIECE = 256 * 1024
"""Bytes of an export that are sent at once."""
TURN = 2.0
"""Seconds after which a thread that reads for an export is given back, also if no job matches."""
IMPORTS = 8
"""Imports of one server that run at once: each keeps a thread until its end."""


class Sender:
    """The body of an export, a piece at a time. A fault raises its error, so the body is cut off."""

    def __init__(self, call: Call, *, where: str | None, output: bool, compress: bool) -> None:
        self._call = call
        self._lines, self._size = list[bytes](), 0
        self._export = call.queue.transfer().export(self._write, where=where, output=output)
        self._packer = zlib.compressobj(LEVEL, wbits=31) if compress else None
        self._is_complete = False

    def piece(self) -> bytes:
        """The next piece, which may be empty. To be called in a thread."""
        check(self._call, ends=self._call.server.ending.is_set())
        until = monotonic() + TURN
        for _ in self._export:
            if self._size >= PIECE or monotonic() >= until:
                break
        else:
            self._is_complete = True
        content = b"".join(self._lines)
        self._lines, self._size = [], 0
        if self._packer is None:
            return content
        packed = self._packer.compress(content)
        return packed + self._packer.flush() if self._is_complete else packed

    async def body(self, first: bytes) -> AsyncIterator[bytes]:
        """All pieces. A client that reads slowly delays this coroutine, and nothing else."""
        yield first
        while not self._is_complete:
            yield await in_time(self._call.server, self.piece)

    def _write(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)


def check(call: Call, *, ends: bool) -> None:
    """Raise an error if the server ends, or if the token of the caller is no longer valid: a transfer takes hours."""
    if ends:
        raise Refusal("draining", "this server is about to end", "send the request again")
    if not call.server.authenticator.admits(call.caller):
        raise Unauthenticated("the token was revoked or has expired")


class Receiver(io.RawIOBase):
    """The body of a request as a file for a thread. A body that breaks off ends there, which an import finds out."""

    def __init__(self, request: Request, limit: int) -> None:
        self._parts, self._limit = request.stream(), limit
        self._loop = asyncio.get_running_loop()
        self._next: Any = None
        self._rest, self._size, self._is_closed = memoryview(b""), 0, False

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for the next part of the body. Returns 0 at the end."""
        if not self._rest and not self._is_closed:
            self._next = asyncio.run_coroutine_threadsafe(self._part(), self._loop)
            self._rest = memoryview(self._next.result())
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def end(self) -> None:
        """Let the thread read no more. To be called in the event loop."""
        self._is_closed = True
        if self._next is not None:
            self._next.cancel()

    async def _part(self) -> bytes:
        try:
            async for part in self._parts:
                self._size += len(part)
                if self._size > self._limit:
                    raise too_large(self._limit)
                if part:
                    return part
        except (ClientDisconnect, asyncio.CancelledError):
            pass
        self._is_closed = True
        return b""


def run(call: Call, steps: Import, *, dry_run: bool) -> dict[str, Any]:
    """Do all steps of an import. Returns its JSON object. A fault has the object of what was imported before it."""
    try:
        with closing(steps):
            for _ in steps:
                check(call, ends=call.server.draining)
    except QueuectlError as error:
        further = {"import": {**shown(steps.done), "dry_run": dry_run}}
        raise Refusal(
            error.code, error.message, error.hint, headers={"Connection": "close"}, further=further
        ) from error
    return {**shown(steps.done), "dry_run": dry_run}


async def receive(call: Call, **options: Any) -> dict[str, Any]:
    """Import the body of the request. Returns the JSON object of the import."""
    state = call.server
    if state.imports >= IMPORTS:
        raise Refusal("too_many", f"{IMPORTS} imports of this server are running")
    receiver = Receiver(call.body, state.limits.bulk)
    state.imports += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(
            state.waiters, _received, call, receiver, options
        )
    finally:
        state.imports -= 1
        receiver.end()


def _received(call: Call, receiver: Receiver, options: dict[str, Any]) -> dict[str, Any]:
    check(call, ends=call.server.draining)
    steps = call.queue.transfer().read(cast(BinaryIO, receiver), **options)
    return run(call, steps, dry_run=options["dry_run"])
