"""The routes that list, show, explain and count jobs, and resolve references."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace
from starlette.responses import Response, StreamingResponse

from queuectl.domain.query import Found, Jobs, Page, Sort, Unreadable
from queuectl.errors import InvalidInput, Unauthenticated
from queuectl.http.call import Call, Reply
from queuectl.http.routes.selecting import Shorthands, etag, fields_of, shown_job, wanted_of
from queuectl.http.table import Route
from queuectl.http.threads import in_time
from queuectl.service import shapes
from queuectl.service.matching import Wanted
from queuectl.service.shapes.diagnosis import explanation
from queuectl.service.shapes.record import document

JSONL = "application/jsonl"
PAGE = 1000
MANY = 1000
"""References in one request."""

Reference = Annotated[str, Meta(max_length=1024)]


class Selection(Shorthands, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query of a list of jobs.

    `ref` cannot be combined with a condition, an order or a cursor.
    """

    ref: Annotated[
        list[Reference],
        Meta(max_length=MANY, description="the jobs with these ids; unknown ids are left out"),
    ] = field(default_factory=list)
    sort: Sort = "created"
    limit: Annotated[int, Meta(ge=1, le=PAGE)] | None = None
    cursor: Annotated[str | None, Meta(description="`next` of the page before")] = None
    fields: Annotated[str | None, Meta(description="only these keys of each job, with commas between")] = None


class Fields(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of one job."""

    fields: Annotated[str | None, Meta(description="only these keys, with commas between")] = None


class References(Struct, frozen=True, forbid_unknown_fields=True):
    """References to resolve: jobs, and dependencies such as `12:any`."""

    jobs: Annotated[list[Reference], Meta(max_length=MANY)] = []
    dependencies: Annotated[list[Reference], Meta(max_length=MANY)] = []


async def list_(call: Call) -> Reply | Response:
    """One page of jobs; as JSON lines all of them."""
    asked: Selection = call.query
    fields = fields_of(asked.fields)
    if asked.ref:
        reply: Reply = await in_time(call.server, _named, call, fields)
        return reply
    wanted = await in_time(call.server, wanted_of, call, asked)
    if JSONL in call.headers.get("accept", ""):
        page = Page(limit=min(asked.limit or PAGE, PAGE), after=asked.cursor, sort=asked.sort)
        first = await in_time(call.server, call.queue.list, wanted, page)
        return StreamingResponse(_lines(call, wanted, page, first), media_type=JSONL)
    page = Page(limit=asked.limit or Page().limit, after=asked.cursor, sort=asked.sort)
    found: Found = await in_time(call.server, call.queue.list, wanted, page)
    headers = {} if found.next is None else {"Link": _next_link(call, asked, found.next)}
    shown = [shown_job(call, job, fields) for job in found.jobs]
    return Reply(shapes.listed(shown, found.next, found.unreadable, found.looked_at), headers=headers)


def _named(call: Call, fields: Sequence[str]) -> Reply:
    """The jobs with the given ids, in this order."""
    asked: Selection = call.query
    if replace(asked, ref=[], fields=None, limit=None) != Selection():
        raise InvalidInput("ref cannot be combined with conditions, sort or cursor", "leave out one of them")
    found = call.queue.get(asked.ref)
    jobs = [found[id] for id in dict.fromkeys(asked.ref) if id in found]
    damaged = list(found.unreadable.values()) if isinstance(found, Jobs) else []
    return Reply(shapes.listed([shown_job(call, job, fields) for job in jobs], None, damaged))


async def _lines(call: Call, wanted: Wanted, page: Page, found: Found) -> AsyncIterator[bytes]:
    """All jobs that match, one a line, at most `limit`; then those that cannot be decoded. One page is in memory.

    A fault between two pages cuts the body off, so that the client does not take it for complete.
    """
    fields, left = fields_of(call.query.fields), call.query.limit
    damaged: dict[int, Unreadable] = {}
    while True:
        damaged |= {each.number: each for each in found.unreadable}
        yield b"".join(_line(shown_job(call, job, fields)) for job in found.jobs)
        left = None if left is None else left - len(found.jobs)
        if found.next is None or left == 0:
            break
        page = replace(page, after=found.next, limit=min(left or PAGE, PAGE))
        found = await in_time(call.server, _next_page, call, wanted, page)
    yield b"".join(_line(shapes.line_of_unreadable(each)) for each in damaged.values())


def _next_page(call: Call, wanted: Wanted, page: Page) -> Found:
    """The next page. A slow client reads a long list for hours, so each page needs a token that is still valid."""
    if not call.server.authenticator.admits(call.caller):
        raise Unauthenticated("the token was revoked or has expired")
    return call.queue.list(wanted, page)


def _line(shown: dict[str, Any]) -> bytes:
    return msgspec.json.encode(shown) + b"\n"


def _next_link(call: Call, asked: Selection, cursor: str) -> str:
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value and name != "ref"}
    return f'<{call.server.root}/v1/jobs?{urlencode(given | {"cursor": cursor})}>; rel="next"'


def show(call: Call) -> Reply:
    """One job with its attempts."""
    fields = fields_of(call.query.fields)
    job = call.queue.show(call.path["ref"])
    return Reply(shapes.shown(job) | {"job": shown_job(call, job, fields)}, etag=etag(job))


def explain(call: Call) -> Reply:
    """Why a job is in its state, and what has to happen next."""
    return Reply(explanation(call.queue.explain(call.path["ref"])))


def resolve(call: Call) -> Reply:
    """The ids that references mean."""
    asked: References = call.body
    jobs, dependencies = call.queue.resolve(asked.jobs), call.queue.parents(asked.dependencies)
    return Reply(document(jobs=jobs, dependencies=dependencies))


def counts(call: Call) -> Reply:
    """How many jobs match, per queue and state."""
    return Reply(document(queues=call.queue.counts(wanted_of(call, call.query)).queues))


ROUTES = (
    Route(
        method="GET",
        path="/v1/jobs",
        scope="view",
        summary="A page of jobs, newest first; with Accept: application/jsonl all that match, one a line",
        handler=list_,
        query=Selection,
        answers={200: "Jobs"},
    ),
    Route(
        method="GET",
        path="/v1/jobs/{ref}",
        scope="view",
        summary="One job with its attempts",
        handler=show,
        query=Fields,
        answers={200: "JobDocument"},
        errors=("not_found", "unreadable"),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{ref}/explain",
        scope="view",
        summary="Why a job is in its state, and what has to happen next",
        handler=explain,
        answers={200: "Explanation"},
        errors=("not_found", "unreadable"),
    ),
    Route(
        method="POST",
        path="/v1/resolve",
        scope="view",
        summary="The ids of jobs that are named by number, prefix or @last",
        handler=resolve,
        body=References,
        answers={200: "Resolved"},
        errors=("not_found",),
        reads=True,
    ),
    Route(
        method="GET",
        path="/v1/counts",
        scope="view",
        summary="How many jobs match, per queue and state",
        handler=counts,
        query=Shorthands,
        answers={200: "Counts"},
    ),
)
