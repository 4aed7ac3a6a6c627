"""Events: what happened to jobs, as a list, and as a stream that goes on."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, get_args

from msgspec import Meta, Struct
from starlette.responses import Response

from queuectl.config import nearest
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput
from queuectl.http.call import Call, Reply
from queuectl.http.event_feed import Overview
from queuectl.http.event_reader import EventReader
from queuectl.http.output_events import BYE
from queuectl.http.routes.selecting import time_of
from queuectl.http.streaming import Stream, StreamResponse
from queuectl.http.table import Route
from queuectl.http.threads import in_time
from queuectl.service.events import LAST, EventPage, Selected, is_cursor, kinds_of, rank
from queuectl.service.shapes import events as shapes

FIRST = ": queuectl\nretry: 2000\nid: {}\n\n"
"""Sent at once, so that a client sees that no proxy keeps the stream back. A client that loses the stream before the
first event goes on at this id."""
NOW = "now"
JOBS = "jobs"
TOPICS = (JOBS, *get_args(Overview))


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query: which events, from where on."""

    since: Annotated[
        str | None,
        Meta(description="behind this cursor, from this time, within this duration (2h), or `now`"),
    ] = None
    type: Annotated[str | None, Meta(description="only these events: `completed,dead`")] = None
    where: Annotated[str | None, Meta(description="of jobs that match, for example `queue:mail`")] = None
    limit: Annotated[int, Meta(ge=0, le=1000, description="of a list; 0 answers only the cursor")] = 100
    topics: Annotated[
        str | None, Meta(description="of a stream: `jobs` (the events), `counts`, `queues`, `workers`")
    ] = None


async def events(call: Call) -> Reply | Response:
    """A page of events, or a stream."""
    if "text/event-stream" in call.headers.get("accept", ""):
        return await _stream(call)
    if call.query.topics is not None:
        raise InvalidInput("topics: a list has only events", "send Accept: text/event-stream")
    page = await in_time(call.server, _page, call)
    return Reply(shapes.page(page.events, page.next, gap=page.gap))


def _page(call: Call) -> EventPage:
    asked: EventsQuery = call.query
    selected = _selected(call)
    begin = _begin(call, asked.since or LAST_HOUR)
    return call.queue.events().page(begin, asked.limit, selected) if asked.limit else EventPage([], begin)


LAST_HOUR = f"{LAST.total_seconds():.0f}s"


def _selected(call: Call) -> Selected:
    asked: EventsQuery = call.query
    return Selected(
        None if asked.type is None else kinds_of(asked.type),
        None if asked.where is None else parse(asked.where, call.queue.now()),
        call.caller.queues,
    )


def _begin(call: Call, since: str) -> str:
    """The cursor that `since` means."""
    if is_cursor(since):
        return since
    return call.queue.events().cursor(None if since == NOW else time_of(call, since))


async def _stream(call: Call) -> Response:
    """A stream from `Last-Event-ID` or `since` on, else from now."""
    asked: EventsQuery = call.query
    topics = _topics(asked.topics)
    since = call.headers.get("last-event-id") or asked.since or NOW
    feed = call.server.feed
    selected, begin, end = await in_time(call.server, _begins, call, since, feed.end)
    if len(rank(begin)) != len(rank(end)):
        raise InvalidInput(f"{begin!r} is no cursor of events", "copy the id of an event")
    stream = call.server.streams.open(call, "events")
    reader = EventReader(
        call.server,
        stream,
        call.queue,
        begin,
        selected if JOBS in topics else None,
        [topic for topic in get_args(Overview) if topic in topics],
    )
    return StreamResponse(
        call.server.streams,
        stream,
        _content(call, stream, reader, begin, end),
        {"X-Content-Type-Options": "nosniff"},
        "text/event-stream",
        ends_cleanly=True,
    )


def _begins(call: Call, since: str, end: str | None) -> tuple[Selected, str, str]:
    """What is selected, where the stream begins, and the end of the events (`end` is known if somebody follows)."""
    end = call.queue.events().cursor(None) if end is None else end
    return _selected(call), end if since == NOW else _begin(call, since), end


async def _content(
    call: Call, stream: Stream, reader: EventReader, begin: str, end: str
) -> AsyncGenerator[bytes, None]:
    feed = call.server.feed
    yield FIRST.format(begin).encode()
    live = feed.attend(stream, call.server.queue, end, frozenset(reader.topics))
    try:
        async with aclosing(reader.parts(live)) as parts:
            async for part in parts:
                yield part
    finally:
        feed.depart(stream)
    if stream.closed == "ending":
        yield BYE


def _topics(text: str | None) -> frozenset[str]:
    """The topics of a stream. Raises InvalidInput for an unknown one."""
    words = [word.strip() for word in (JOBS if text is None else text).split(",")]
    for word in words:
        if word not in TOPICS:
            raise InvalidInput(
                f"topics: {word[:40]!r} is none of {', '.join(TOPICS)}", nearest(word, list(TOPICS))
            )
    return frozenset(words)


ROUTES = (
    Route(
        method="GET",
        path="/v1/events",
        scope="view",
        summary="What happened to jobs: a list, or a stream that goes on",
        handler=events,
        query=EventsQuery,
        answers={200: "Events"},
        errors=("too_many",),
    ),
)
