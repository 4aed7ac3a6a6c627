"""The route that enqueues one job, many jobs, or JSON lines."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request

from queuectl.errors import InvalidInput
from queuectl.http import body
from queuectl.http.bulk import enqueue_lines
from queuectl.http.call import Call, Reply
from queuectl.http.enqueueing import EnqueueOptions, Tally, all_refused, idempotency_key, status_of, store
from queuectl.http.problem import Refusal
from queuectl.http.routes.jobs import JSONL, MANY
from queuectl.http.table import Route
from queuectl.http.threads import in_time
from queuectl.service import mistakes, shapes
from queuectl.service.request.fields import JobRequest

NDJSON = "application/x-ndjson"


class EnqueueQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How the jobs are stored and answered."""

    dry_run: Annotated[bool, Meta(description="check the jobs, and store nothing")] = False
    invalid: Annotated[
        Literal["refuse", "skip"],
        Meta(description="skip: store the valid jobs although others are invalid"),
    ] = "refuse"
    ids: Annotated[bool, Meta(description="of JSON lines: the answer lists the jobs")] = False
    whole: Annotated[bool, Meta(description="the answer has the whole jobs")] = False


class ManyJobs(Struct, frozen=True, forbid_unknown_fields=True):
    """Jobs that are stored in one commit: all are checked before one is stored."""

    jobs: Annotated[list[JobRequest], Meta(min_length=1, max_length=MANY)]


async def enqueue(call: Call) -> Reply:
    """Store new jobs."""
    if call.server.draining:
        raise Refusal("draining", "this server is about to end", "send the request again")
    asked: EnqueueQuery = call.query
    options = EnqueueOptions(asked.invalid == "skip", asked.dry_run, asked.whole, idempotency_key(call))
    request: Request = call.body
    kind = body.require(request, body.JSON, JSONL, NDJSON)
    if kind != body.JSON:
        return await enqueue_lines(call, options, ids=asked.ids)
    raw = await body.read(request, call.server.limits.body)
    answer: Reply = await in_time(call.server, _enqueue, call, raw, options, changes=not asked.dry_run)
    return answer


def _enqueue(call: Call, raw: bytes, options: EnqueueOptions) -> Reply:
    items = _items(raw)
    try:
        tally = store(call, [raw] if items is None else items, options)
    except InvalidInput as error:
        if items is not None and error.index is not None:
            error.pointer = f"/jobs/{error.index}{error.pointer or ''}"
        raise
    found = shapes.all_enqueued(tally.jobs, tally.refused)
    if tally.refused and not tally.jobs:
        raise all_refused(tally, found)
    return Reply(found, status_of(tally), _location(call, tally, options) if items is None else {})


def _location(call: Call, tally: Tally, options: EnqueueOptions) -> dict[str, str]:
    if options.dry_run:
        return {}
    return {"Location": f"{call.server.root}/v1/jobs/{tally.jobs[0]['id']}"}


def _items(raw: bytes) -> list[bytes] | None:
    """The jobs of a document with the key `jobs`; None for the document of one job."""
    mistakes.refuse_depth(raw)
    try:
        keys = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidInput("an object is expected", 'for example {"command": "make report"}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise body.malformed(raw, error) from error
    if "jobs" not in keys:
        return None
    return [bytes(item) for item in body.decode(raw, _RawJobs).jobs]


class _RawJobs(Struct, frozen=True, forbid_unknown_fields=True):
    jobs: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MANY)]


ROUTES = (
    Route(
        method="POST",
        path="/v1/jobs",
        scope="enqueue",
        summary="New jobs: one, at most 1,000 as a list, or any number as JSON lines",
        handler=enqueue,
        query=EnqueueQuery,
        body=(JobRequest, ManyJobs),
        answers={201: "Enqueued", 200: "Enqueued"},
        errors=("not_found", "conflict", "draining", "too_large", "unsupported_media"),
        raw_body=True,
    ),
)
