"""Queues, and the status of the whole system."""

from queuectl.http.call import Call, Reply
from queuectl.http.table import Route
from queuectl.service import shapes
from queuectl.service.shapes import document


def status(call: Call) -> Reply:
    """Counts, queues, workers, and what needs a person."""
    return Reply(shapes.status(call.queue.status()))


def list_(call: Call) -> Reply:
    """Answer with all queues."""
    return Reply(document(queues=[shapes.queue(queue) for queue in call.queue.queues()]))


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
)
