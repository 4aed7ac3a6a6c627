"""Queues, and the status of the whole system."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from queuectl.domain.queue import QueueChange
from queuectl.errors import InvalidInput, NotFound
from queuectl.http.call import Call, Reply, weak_tag
from queuectl.http.routes.selecting import expected_version, of_entry
from queuectl.http.table import Route
from queuectl.service import shapes
from queuectl.service.commands import LONGEST_REASON
from queuectl.service.queue_status import QueueStatus


class QueuePatch(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change: whether jobs start, why not, and how many run at once (null: no limit)."""

    paused: bool | UnsetType = UNSET
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)] | UnsetType | None = UNSET
    limit: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET


def status(call: Call) -> Reply:
    """Counts, queues, workers, and what needs a person."""
    found = call.queue.status()
    shown = shapes.status(found)
    # The tag leaves out what only says how late it is, so that a status that is otherwise the same gets 304.
    still = [{**each, "oldest_due_seconds": None} for each in shown["queues"]]
    return Reply(shown, etag=weak_tag({**shown, "queues": still, "now": None}))


def list_(call: Call) -> Reply:
    """All queues."""
    return Reply(shapes.all_queues(call.queue.queues()))


def show(call: Call) -> Reply:
    """One queue."""
    name = call.path["name"]
    found = _find(call, name)
    if found is None:
        raise NotFound(f"there is no queue {name!r}", "GET /v1/queues lists those with jobs or settings")
    return _shown(found, name)


def change(call: Call) -> Reply:
    """Pause, resume or limit a queue."""
    asked: QueuePatch = call.body
    name = call.path["name"]
    if asked == QueuePatch():
        raise InvalidInput("no change is given", "give paused or limit")
    wanted = QueueChange(paused=asked.paused, reason=asked.reason, limit=asked.limit)
    call.queue.change_queue(name, wanted, version=expected_version(call))
    return _shown(_find(call, name), name)


def _shown(found: QueueStatus | None, name: str) -> Reply:
    return of_entry(shapes.one_queue(found, name), found.version if found else 0)


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
        errors=("changed",),
    ),
)
