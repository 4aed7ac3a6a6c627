"""The documents of output: of one attempt, and of the parts of an output that is followed.

Bytes are written as `text` if they are UTF-8, otherwise as `base64`.
"""

import base64
from collections.abc import Mapping
from typing import Any

from queuectl.domain.instant import format_instant, parse_instant
from queuectl.domain.job import Attempt, Job
from queuectl.domain.output import COMBINED, STDERR, STDOUT, Chunk, Piece
from queuectl.errors import InvalidInput
from queuectl.service import attempts
from queuectl.service.following import Begin, Output, Position
from queuectl.service.shapes.record import Record, document

STREAM_NAMES = {COMBINED: "combined", STDOUT: "stdout", STDERR: "stderr"}
BEGIN = Record(Begin, "attempt attempt_id worker started_at")
_RESULT = Record(Attempt, "outcome exit_code signal")
_STREAMS = {name: stream for stream, name in STREAM_NAMES.items()}

begin, begin_of = BEGIN.encode, BEGIN.decode


def output(found: Output) -> dict[str, Any]:
    """The output of one attempt."""
    return document(
        job=found.job.id,
        attempt=found.attempt,
        attempt_id=found.attempt_id,
        bytes=found.total,
        pieces=[piece(each) for each in found.pieces],
    )


def output_of(document: Mapping[str, Any], job: Job) -> Output:
    """The output of one attempt of this job."""
    pieces = [_piece_of(each) for each in document["pieces"]]
    return Output(job, document["attempt"], document["attempt_id"], pieces, document["bytes"])


def piece(piece: Piece) -> dict[str, Any]:
    """A part of an assembled output."""
    if piece.omitted:
        return {"omitted": piece.omitted}
    return {"stream": STREAM_NAMES[piece.stream], **_data(piece.data)}


def _piece_of(document: Mapping[str, Any]) -> Piece:
    if omitted := document.get("omitted"):
        return Piece(stream=COMBINED, omitted=omitted)
    return Piece(stream=_STREAMS[document["stream"]], data=_data_of(document))


def chunk(chunk: Chunk) -> dict[str, Any]:
    """Bytes of an output that is followed."""
    return {
        "n": chunk.n,
        "stream": STREAM_NAMES[chunk.stream],
        "at": format_instant(chunk.at),
        "offset": chunk.offset,
        **_data(chunk.data),
    }


def chunk_of(document: Mapping[str, Any], job_id: str, attempt_id: str) -> Chunk:
    """Bytes of the output of this attempt."""
    return Chunk(
        job_id=job_id,
        attempt_id=attempt_id,
        n=document["n"],
        stream=_STREAMS[document["stream"]],
        at=parse_instant(document["at"]),
        offset=document["offset"],
        data=_data_of(document),
    )


def end(job: Job | None, attempt_id: str | None) -> dict[str, Any]:
    """The end of an output that is followed: the state of the job (null: deleted) and how the attempt ended."""
    past = attempts.finished(job, attempt_id) if job and attempt_id else None
    result = _RESULT.encode(past) if past else dict.fromkeys(_RESULT.keys)
    return {"state": job.state if job else None, **result}


def event_id(at: Position) -> str:
    """A position as the id of an event: `ATTEMPT:OFFSET`.

    ATTEMPT is the attempt id, or the number of an attempt whose id is not certain: it has not begun, or it has not
    started, so that it may still be given back.
    """
    return f"{at.attempt_id or at.attempt}:{at.offset}"


def position_of(text: str) -> Position:
    """The position that the id of an event says. Raises InvalidInput."""
    name, _, offset = text.rpartition(":")
    if not name or not _is_count(offset, 18):
        raise InvalidInput(f"Last-Event-ID: {text!r} is no id of an event", "it is ATTEMPT:OFFSET")
    if _is_count(name, 9):
        return Position("", int(offset), int(name))
    return Position(name, int(offset))


def _is_count(text: str, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= digits


def _data(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _data_of(document: Mapping[str, Any]) -> bytes:
    text = document.get("text")
    return text.encode() if text is not None else base64.b64decode(document["base64"])
