"""The routes for jobs: list and show."""

from typing import Annotated

from msgspec import Meta, Struct

from queuectl.domain.query import Filter, Page, Sort
from queuectl.http.call import Call, Reply
from queuectl.http.redaction import redacted
from queuectl.http.table import Route
from queuectl.service import shapes
from queuectl.service.listing import states_of
from queuectl.service.shapes import document


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a list of jobs."""

    state: str | None = None
    queue: str | None = None
    tag: str | None = None
    batch: str | None = None
    key: str | None = None
    sort: Sort = "created"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: str | None = None


def list_(call: Call) -> Reply:
    """Answer with one page of jobs."""
    asked: Selection = call.query
    wanted = Filter(
        states=states_of(asked.state.split(",")) if asked.state else frozenset(),
        queue=asked.queue,
        tag=asked.tag,
        batch=asked.batch,
        unique_key=asked.key,
    )
    found = call.queue.list(wanted, Page(limit=asked.limit, after=asked.cursor, sort=asked.sort))
    unreadable = [shapes.unreadable(each) for each in found.unreadable]
    jobs = [redacted(call.caller, shapes.job(job)) for job in found.jobs]
    return Reply(document(jobs=jobs, next=found.next, unreadable=unreadable))


def show(call: Call) -> Reply:
    """Answer with one job and its attempts."""
    job = call.queue.show(call.path["ref"])
    return Reply(document(job=redacted(call.caller, shapes.job(job))), etag=f'"{job.version}"')


ROUTES = (
    Route(
        method="GET",
        path="/v1/jobs",
        scope="view",
        summary="A page of jobs, newest first",
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
        answers={200: "JobDocument"},
        errors=("not_found", "unreadable"),
    ),
)
