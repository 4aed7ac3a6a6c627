"""JSON lines: jobs that are stored while they arrive, a thousand in each commit."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from queuectl.errors import InvalidInput, QueuectlError, Unauthenticated
from queuectl.http.body import too_large
from queuectl.http.call import Call, Reply
from queuectl.http.enqueueing import EnqueueOptions, Tally, all_refused, status_of, store
from queuectl.http.problem import Refusal, located
from queuectl.http.server_state import Limits
from queuectl.http.threads import in_time
from queuectl.service.shapes.record import document

BATCH = 1000
BATCH_BYTES = 8 * 1024**2
REFUSED_SHOWN = 100

Lines = list[tuple[int, bytes]]
"""Lines with their numbers."""


class Totals(Tally):
    """What became of all lines so far. `lines` counts those that are stored, and `size` their bytes."""

    lines: int = 0
    size: int = 0

    def take(self, batch: Tally, lines: Lines, *, ids: bool) -> None:
        """Add the tally of one batch. The jobs are kept only if the answer has them."""
        numbers = {self.lines + position: number for position, (number, _) in enumerate(lines)}
        shown = [{**each, "line": numbers[each["index"]]} for each in batch.refused]
        self.refused += shown[: REFUSED_SHOWN - len(self.refused)]
        self.jobs += batch.jobs if ids else ()
        self.added += batch.added
        self.existing += batch.existing
        self.refused_count += batch.refused_count
        self.first = self.first or batch.first
        self.lines += len(lines)
        self.size += _size(lines)

    def document(self, *, ids: bool) -> dict[str, Any]:
        """The answer."""
        found = document(added=self.added, existing=self.existing, refused_count=self.refused_count)
        found |= {"jobs": self.jobs} if ids else {}
        return found | ({"refused": self.refused} if self.refused else {})


async def enqueue_lines(call: Call, options: EnqueueOptions, *, ids: bool) -> Reply:
    """Store the jobs of all lines. A fault ends it: the batches before are stored, and the answer counts them."""
    totals, request = Totals(), call.body
    try:
        async for lines in _batches(request, call.server.limits):
            if ids:
                _check_listed(totals, lines, options, call.server.limits)
            await _store(call, totals, lines, options, ids=ids)
    except QueuectlError as error:
        raise _stopped(error, totals, ids=ids) from error
    found = totals.document(ids=ids)
    if totals.refused_count and not totals.added and not totals.existing and not options.dry_run:
        raise all_refused(totals, found)
    return Reply(found, status_of(totals))


def _check_listed(totals: Totals, lines: Lines, options: EnqueueOptions, limits: Limits) -> None:
    """Refuse lines whose jobs would make the answer too long: it is kept in memory until all lines are stored."""
    number = lines[0][0]
    if totals.lines + len(lines) > limits.listed:
        listed = InvalidInput(
            f"ids=1 lists at most {limits.listed} jobs", "send the other lines in another request"
        )
        raise _in_line(number, listed)
    if (options.dry_run or options.whole) and totals.size + _size(lines) > limits.body:
        whole = InvalidInput(
            f"ids=1 lists whole jobs of at most {limits.body} bytes",
            "send the other lines in another request",
        )
        raise _in_line(number, whole)


async def _store(call: Call, totals: Totals, lines: Lines, options: EnqueueOptions, *, ids: bool) -> None:
    try:
        batch: Tally = await in_time(
            call.server,
            lambda: _store_if_allowed(call, lines, options, first=totals.lines),
            changes=not options.dry_run,
        )
    except InvalidInput as error:
        if error.index is not None:
            raise _in_line(lines[error.index][0], error) from error
        raise
    totals.take(batch, lines, ids=ids)


def _store_if_allowed(call: Call, lines: Lines, options: EnqueueOptions, *, first: int) -> Tally:
    """Store one batch. The body of one request may arrive for days, so each batch needs a token that is still valid."""
    if call.server.draining:
        raise Refusal("draining", "this server is about to end", "send the other lines again")
    if not call.server.authenticator.admits(call.caller):
        raise Unauthenticated("the token was revoked or has expired", "send the other lines with another")
    return store(call, [line for _, line in lines], options, first=first)


class _BadLine(InvalidInput):
    """A line that cannot be a job."""

    line: int = 0


def _in_line(number: int, error: InvalidInput) -> _BadLine:
    found = _BadLine(f"line {number}: {error.message}", error.hint)
    found.pointer, found.line = error.pointer, number
    return found


def _stopped(error: QueuectlError, totals: Totals, *, ids: bool) -> Refusal:
    """The error with the number of lines that are stored, and with their jobs if the answer is to list them.

    The rest of the body is not read, so the connection ends.
    """
    further = {"committed": totals.lines, **located(error)}
    if ids:
        further["jobs"] = totals.jobs
    if isinstance(error, _BadLine):
        further["line"] = error.line
    return Refusal(error.code, error.message, error.hint, headers={"Connection": "close"}, further=further)


def _size(lines: Lines) -> int:
    return sum(len(line) for _, line in lines)


async def _batches(request: Request, limits: Limits) -> AsyncIterator[Lines]:
    """The lines that are not empty, a thousand or 8 MiB at a time. Raises an error if body or line are too long."""
    batch, number, size = Lines(), 0, 0
    async for line in _lines(request, limits):
        number += 1
        if line.strip():
            batch.append((number, line))
            size += len(line)
        if len(batch) == BATCH or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _lines(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    pieces, size, length, number = list[bytes](), 0, 0, 1
    async for part in request.stream():
        size += len(part)
        if size > limits.bulk:
            raise too_large(limits.bulk)
        for position, piece in enumerate(part.split(b"\n")):
            if position:
                yield b"".join(pieces)
                pieces, length, number = [], 0, number + 1
            pieces.append(piece)
            length += len(piece)
            if length > limits.line:
                raise _in_line(number, InvalidInput(f"it has more than {limits.line} bytes"))
    yield b"".join(pieces)
