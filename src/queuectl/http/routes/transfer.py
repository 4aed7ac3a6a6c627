"""The routes that export and import a whole queue."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import StreamingResponse

from queuectl.http import body, compression
from queuectl.http.call import Call, Reply
from queuectl.http.routes.enqueue import NDJSON
from queuectl.http.routes.jobs import JSONL
from queuectl.http.table import Route
from queuectl.http.threads import in_time
from queuectl.http.transferring import Sender, receive
from queuectl.service.shapes.record import document
from queuectl.service.transfer.tally import OnConflict

GZIP = "application/gzip"


class ExportQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What is exported."""

    where: Annotated[
        str | None,
        Meta(description="only the jobs that match a filter, without settings, queues and schedules"),
    ] = None
    output: Annotated[Literal["all", "none"], Meta(description="what the commands printed")] = "all"


class ImportQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How a file is imported."""

    on_conflict: Annotated[
        OnConflict, Meta(description="what is done if the store has another of this name")
    ] = "error"
    partial: Annotated[bool, Meta(description="import what is there of a cut or changed file")] = False
    dry_run: Annotated[bool, Meta(description="change nothing; the answer says what an import would do")] = (
        False
    )


async def export(call: Call) -> StreamingResponse:
    """The lines of an export as they are read. Before the first one an error has its status; later it cuts the body."""
    asked: ExportQuery = call.query
    compress = compression.is_accepted(call.headers.get("accept-encoding", ""))
    sender: Sender = await in_time(
        call.server,
        lambda: Sender(call, where=asked.where, output=asked.output == "all", compress=compress),
    )
    first = await in_time(call.server, sender.piece)
    headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if compress else {})
    return StreamingResponse(sender.body(first), headers=headers, media_type=JSONL)


async def import_(call: Call) -> Reply:
    """Import the body while it arrives."""
    asked: ImportQuery = call.query
    body.require(call.body, JSONL, NDJSON, GZIP)
    done = await receive(call, on_conflict=asked.on_conflict, partial=asked.partial, dry_run=asked.dry_run)
    return Reply(document(**{"import": done}))


ROUTES = (
    Route(
        method="GET",
        path="/v1/export",
        scope="admin",
        summary="All jobs with their output, settings, queues and schedules, as JSON lines",
        handler=export,
        query=ExportQuery,
        answers={200: "lines"},
    ),
    Route(
        method="POST",
        path="/v1/import",
        scope="admin",
        summary="Import the lines of an export, which may be compressed",
        handler=import_,
        query=ImportQuery,
        answers={200: "Imported"},
        errors=("conflict", "failed", "too_large", "unsupported_media", "draining"),
        raw_body=True,
    ),
)
