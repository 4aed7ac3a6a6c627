"""The output of a job: as bytes, as the document of `logs --json`, and as a stream of events, chosen by `Accept`.

Offsets count all bytes that the command printed, kept or not. `to` is the offset after the last byte.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace
from starlette.responses import Response

from queuectl.domain.job import Job
from queuectl.domain.output import STDERR, STDOUT, Chunk, Piece, between, last_lines, of_stream
from queuectl.errors import InvalidInput
from queuectl.http.call import Call, Reply
from queuectl.http.output_events import BYE, ENDED, OutputEvents
from queuectl.http.output_reader import OutputReader
from queuectl.http.streaming import Stream, StreamResponse
from queuectl.http.table import Route
from queuectl.http.threads import in_time
from queuectl.service import attempts
from queuectl.service.following import Output, begins, check_stream, start_of
from queuectl.service.shapes import output as shapes

STREAMS = {"stdout": STDOUT, "stderr": STDERR}
DOWNLOAD = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the output is wanted. `tail` counts lines."""

    attempt: Annotated[int, Meta(ge=1)] | None = None
    stream: Literal["stdout", "stderr"] | None = None
    start: Annotated[int, Meta(ge=0)] = field(default=0, name="from")
    end: Annotated[int, Meta(ge=0)] | None = field(default=None, name="to")
    tail: Annotated[int, Meta(ge=1)] | None = None
    follow: bool = False

    @property
    def only(self) -> int | None:
        """The number of the wanted stream; None for all."""
        return None if self.stream is None else STREAMS[self.stream]


async def output(call: Call) -> Reply | Response:
    """The output of one attempt, or a stream of the output until the job has ended."""
    asked: Part = call.query
    accepted = call.headers.get("accept", "")
    if "text/event-stream" in accepted:
        return await _events(call)
    is_json = "application/json" in accepted
    if asked.follow:
        if is_json:
            raise InvalidInput(
                "follow: one JSON document cannot be followed", "send Accept: text/event-stream"
            )
        return await _followed(call)
    found = await in_time(call.server, _found, call)
    return Reply(shapes.output(found)) if is_json else _bytes(found, asked)


def _found(call: Call) -> Output:
    """The wanted part of the stored output."""
    asked: Part = call.query
    found = call.queue.output(call.path["ref"], asked.attempt)
    check_stream(found.job, asked.only)
    end = found.total if asked.end is None else asked.end
    pieces = of_stream(between(found.pieces, asked.start, end), asked.only)
    return replace(found, pieces=pieces if asked.tail is None else last_lines(pieces, asked.tail))


def _bytes(found: Output, asked: Part) -> Response:
    """The kept bytes. The headers say where they are in the whole output."""
    end = min(found.total if asked.end is None else asked.end, found.total)
    start = min(asked.start, end)
    if asked.tail is not None and asked.stream is None:
        start = end - sum(map(_size, found.pieces))
    past = attempts.finished(found.job, found.attempt_id) if found.attempt_id else None
    headers = {
        **DOWNLOAD,
        "Queuectl-From": str(start),
        "Queuectl-To": str(end),
        "Queuectl-Total": str(found.total),
        "Queuectl-Complete": "true" if past else "false",
    }
    if found.attempt is not None:
        headers["Queuectl-Attempt"] = str(found.attempt)
    if omitted := _omitted(found.pieces, start):
        headers["Queuectl-Omitted"] = omitted
    content = b"".join(piece.data for piece in found.pieces)
    return Response(content, headers=headers, media_type="application/octet-stream")


def _size(piece: Piece) -> int:
    return piece.omitted or len(piece.data)


def _omitted(pieces: list[Piece], at: int) -> str:
    """The ranges of bytes that were not kept, each with the offsets of its first and its last byte."""
    found = list[str]()
    for piece in pieces:
        if piece.omitted:
            found.append(f"{at}-{at + piece.omitted - 1}")
        at += _size(piece)
    return ", ".join(found)


async def _events(call: Call) -> Reply | Response:
    """A stream of events, from `Last-Event-ID` or `from` on."""
    asked: Part = call.query
    last = call.headers.get("last-event-id", "")
    at = shapes.position_of(last) if last else None
    if at and at.attempt_id == ENDED:
        return Reply(None, 204)
    job = await _job(call)
    at = at or start_of(job, asked.attempt, asked.start)
    stream = call.server.streams.open(call, "output")
    events = OutputEvents(at, asked.only)
    reader = OutputReader(call.server, stream, job.id, asked.attempt, at)
    headers = {"X-Content-Type-Options": "nosniff"}
    content = _event_stream(stream, reader, events)
    return StreamResponse(
        call.server.streams, stream, content, headers, "text/event-stream", ends_cleanly=True
    )


async def _event_stream(
    stream: Stream, reader: OutputReader, events: OutputEvents
) -> AsyncGenerator[bytes, None]:
    yield events.first
    async with aclosing(reader.parts()) as parts:
        async for part in parts:
            for event in events.of(part):
                yield event
    if stream.closed == "ending":
        yield BYE


async def _followed(call: Call) -> Response:
    """The bytes of the output as they are printed, until the job has ended."""
    asked: Part = call.query
    job = await _job(call)
    at = start_of(job, asked.attempt, asked.start)
    stream = call.server.streams.open(call, "output")
    reader = OutputReader(call.server, stream, job.id, asked.attempt, at)
    headers = {**DOWNLOAD, "Queuectl-From": str(asked.start), "Queuectl-Complete": "false"}
    if begins(job):
        headers["Queuectl-Attempt"] = str(at.attempt)
    content = _byte_stream(reader, asked.only)
    return StreamResponse(
        call.server.streams, stream, content, headers, "application/octet-stream", ends_cleanly=False
    )


async def _byte_stream(reader: OutputReader, only: int | None) -> AsyncGenerator[bytes, None]:
    async with aclosing(reader.parts()) as parts:
        async for part in parts:
            if isinstance(part, Chunk) and only in (None, part.stream):
                yield part.data


async def _job(call: Call) -> Job:
    """The job whose output is followed."""
    asked: Part = call.query
    if asked.tail is not None or asked.end is not None:
        raise InvalidInput("tail and to exclude a stream", "leave them out, or leave out follow")
    job: Job = await in_time(call.server, call.queue.show, call.path["ref"])
    check_stream(job, asked.only)
    return job


ROUTES = (
    Route(
        method="GET",
        path="/v1/jobs/{ref}/output",
        scope="view",
        summary="The output of an attempt: bytes, a document, or a stream of events",
        handler=output,
        query=Part,
        answers={200: "Output", 204: None},
        errors=("not_found", "unreadable", "too_many"),
    ),
)
