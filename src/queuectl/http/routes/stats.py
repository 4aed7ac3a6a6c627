"""Statistics: how many jobs ended, how long they waited and ran."""

from typing import Annotated

from msgspec import Meta, Struct

from queuectl.http.call import Call, Reply
from queuectl.http.routes.selecting import time_of
from queuectl.http.table import Route
from queuectl.service.shapes.stats import stats as shape
from queuectl.service.stats import By, Question


class StatsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query: the time, and the groups."""

    since: Annotated[str | None, Meta(description="from this time, or within this duration (1h)")] = None
    until: Annotated[str | None, Meta(description="up to this time, or this duration ago (now)")] = None
    by: By = "queue"
    queue: Annotated[str | None, Meta(description="only this queue")] = None
    label: Annotated[str | None, Meta(description="only this label")] = None


def stats(call: Call) -> Reply:
    """Statistics of a time, in groups."""
    asked: StatsQuery = call.query
    since, until = time_of(call, asked.since), time_of(call, asked.until)
    wanted = Question(since=since, until=until, by=asked.by, queue=asked.queue, label=asked.label)
    return Reply(shape(call.queue.stats(wanted)))


ROUTES = (
    Route(
        method="GET",
        path="/v1/stats",
        scope="view",
        summary="How many jobs ended, how long they waited and ran",
        handler=stats,
        query=StatsQuery,
        answers={200: "Stats"},
    ),
)
