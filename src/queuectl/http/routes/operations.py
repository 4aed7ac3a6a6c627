"""The routes of operations: change all jobs that match a filter, carried on behind the request."""

from functools import partial
from time import monotonic
from typing import Annotated, Any

from msgspec import Meta, Struct

from queuectl.domain.names import LONGEST
from queuectl.domain.operation import OperationStatus, Verb
from queuectl.http.call import Call, Reply
from queuectl.http.carrier import AGAIN, pause
from queuectl.http.routes.selecting import preferred_wait
from queuectl.http.table import NoBody, Route
from queuectl.http.threads import in_time
from queuectl.service import shapes
from queuectl.service.shapes import operations as documents

Count = Annotated[int, Meta(ge=0, le=10**15)]


class NewOperation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to do with which jobs.

    id      the same request with the same id again is the same operation
    args    `reason` of cancel; `force` and `alone` of retry; `anyway` of release; `priority`, `run_at`, `queue` of edit
    limit   at most so many jobs, those with the smallest numbers
    expect  409 unless exactly so many jobs match
    """

    verb: Verb
    where: Annotated[str, Meta(description="a filter, for example `state:dead exit:1`")]
    args: dict[str, Any] = {}
    id: Annotated[str, Meta(min_length=1, max_length=LONGEST)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10**15)] | None = None
    dry_run: bool = False
    expect: Count | None = None


async def operate(call: Call) -> Reply:
    """Store the operation and begin it. With `Prefer: wait=N` the answer comes when it has ended."""
    asked: NewOperation = call.body
    if asked.dry_run:
        looked = partial(
            call.queue.preview_operation, asked.verb, asked.where, args=asked.args, limit=asked.limit
        )
        return Reply(shapes.preview(await in_time(call.server, looked)))
    stored = partial(
        call.queue.operate,
        asked.verb,
        asked.where,
        args=asked.args,
        id=asked.id,
        limit=asked.limit,
        expect=asked.expect,
        by=call.caller.name,
    )
    status: OperationStatus = await in_time(call.server, stored, changes=True)
    if status.is_running:
        call.server.carrier.begin(call.server, status.id)
    return await _when_ended(call, status)


def list_(call: Call) -> Reply:
    """All operations of the last week, the newest first."""
    return Reply(documents.all_operations(call.queue.operations()))


async def show(call: Call) -> Reply:
    """One operation. With `Prefer: wait=N` the answer comes when it has ended."""
    status = await in_time(call.server, call.queue.operation, call.path["id"])
    return _shown(call, await _awaited(call, status))


def stop(call: Call) -> Reply:
    """Stop an operation after its running step. One that has ended stays as it is."""
    return Reply(documents.operation(call.queue.stop_operation(call.path["id"])))


async def _when_ended(call: Call, status: OperationStatus) -> Reply:
    found = await _awaited(call, status)
    reply = _shown(call, found)
    headers = {**reply.headers, "Location": f"{call.server.root}/v1/operations/{found.id}"}
    return Reply(reply.document, 202 if found.is_running else 200, headers)


async def _awaited(call: Call, status: OperationStatus) -> OperationStatus:
    """The operation when it has ended, or when the time is over for which the request prefers to wait."""
    deadline = monotonic() + (preferred_wait(call) or 0.0)
    while status.is_running and (left := deadline - monotonic()) > 0 and not call.server.ending.is_set():
        await pause(call.server, min(left, AGAIN))
        status = await in_time(call.server, call.queue.operation, status.id)
    return status


def _shown(call: Call, status: OperationStatus) -> Reply:
    wait = preferred_wait(call)
    headers = {} if wait is None else {"Preference-Applied": f"wait={wait:g}"}
    return Reply(documents.operation(status), headers=headers)


ROUTES = (
    Route(
        method="POST",
        path="/v1/operations",
        scope="operate",
        summary="Change all jobs that match a filter, carried on behind the request",
        handler=operate,
        body=NewOperation,
        answers={200: "OperationOrPreview", 202: "OperationDocument"},
        errors=("conflict",),
    ),
    Route(
        method="GET",
        path="/v1/operations",
        scope="view",
        summary="The operations of the last week",
        handler=list_,
        answers={200: "Operations"},
    ),
    Route(
        method="GET",
        path="/v1/operations/{id}",
        scope="view",
        summary="One operation",
        handler=show,
        answers={200: "OperationDocument"},
        errors=("not_found",),
    ),
    Route(
        method="POST",
        path="/v1/operations/{id}/stop",
        scope="operate",
        summary="Stop an operation; what was done stays",
        handler=stop,
        body=NoBody,
        answers={200: "OperationDocument"},
        errors=("not_found",),
    ),
)
