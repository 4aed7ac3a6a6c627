"""Queues, and the status of the whole system."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from queuectl.errors import InvalidInput, NotFound
from queuectl.http.call import Call, Reply
from queuectl.http.table import Route
from queuectl.service import shapes
from queuectl.service.queries import QueueStatus


class QueuePatch(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change: whether jobs start, and how many run at once (null: no limit)."""

    paused: bool | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET


def status(call: Call) -> Reply:
    """Counts, queues, workers, and what needs a person."""
    return Reply(shapes.status(call.queue.status()))


def list_(call: Call) -> Reply:
    """All queues."""
    return Reply(shapes.all_queues(call.queue.queues()))


def show(call: Call) -> Reply:
    """One queue."""
    name = call.path["name"]
    found = _find(call, name)
    if found is None:
        raise NotFound(f"there is no queue {name!r}", "GET /v1/queues lists those with jobs or settings")
    return Reply(shapes.one_queue(found, name))


def change(call: Call) -> Reply:
    """Pause, resume or limit a queue."""
    asked: QueuePatch = call.body
    name = call.path["name"]
    if asked.paused is UNSET and asked.limit is UNSET:
        raise InvalidInput("no change is given", "give paused or limit")
    if asked.limit is not UNSET:
        call.queue.limit(name, asked.limit)
    if asked.paused is not UNSET:
        (call.queue.pause if asked.paused else call.queue.resume)(name)
    return Reply(shapes.one_queue(_find(call, name), name))


def _find(call: Call, name: str) -> QueueStatus | None:
    return next((queue for queue in call.queue.queues() if queue.name == name), None)


ROUTES = (
    Route(
        method="GET",
        path="/v1/status",
        scope="view",
        summary="Counts, queues and workers, and what needs a person",
        handler=status,
        answers={200: "Status"},
    ),
    Route(
        method="GET",
        path="/v1/queues",
        scope="view",
        summary="All queues with their counts and limits",
        handler=list_,
        answers={200: "Queues"},
    ),
    Route(
        method="GET",
        path="/v1/queues/{name}",
        scope="view",
        summary="One queue",
        handler=show,
        answers={200: "QueueDocument"},
        errors=("not_found",),
    ),
    Route(
        method="PATCH",
        path="/v1/queues/{name}",
        scope="operate",
        summary="Pause, resume or limit a queue",
        handler=change,
        body=QueuePatch,
        answers={200: "QueueDocument"},
    ),
)
