"""The routes of hooks. A change needs the scope `admin`, because a hook runs a command or calls an address."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from queuectl.domain.hook import QUEUE
from queuectl.http.call import Call, Reply
from queuectl.http.redaction import redacted
from queuectl.http.routes.selecting import added_job, expected_version, of_entry
from queuectl.http.table import Handler, NoBody, Route
from queuectl.service import shapes
from queuectl.service.shapes import hooks as documents

Reference = Annotated[
    str, Meta(description="a reference: env:NAME or file:/PATH on the worker that delivers")
]


class NewHook(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole hook, with either `job` or `url`: it is added, or takes the place of that of this name."""

    on: Annotated[list[str] | str, Meta(description="kinds of events: dead, failed, …")]
    where: str | None = None
    job: Annotated[
        dict[str, Any] | None, Meta(description="the template: keys of a new job, such as command")
    ] = None
    url: str | None = None
    secret: Reference | None = None
    headers: dict[str, str] | None = None
    timeout: Annotated[float | str | None, Meta(description="of the request: seconds, or text: 10s")] = None
    proxy: str | None = None


class HookPause(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the hook is paused."""

    reason: Annotated[str, Meta(max_length=10_000)] | None = None


class HookResume(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the events of the pause are left out."""

    skip: bool = False


class HookTest(Struct, frozen=True, forbid_unknown_fields=True):
    """The event, or null for a made-up one. A request that is sent again with its key adds no second job."""

    event: dict[str, Any] | None = None
    key: Annotated[str | None, Meta(description="the end of the id of the job: letters and digits")] = None


def list_(call: Call) -> Reply:
    """All hooks."""
    document = documents.hooks(*call.queue.hooks().all())
    return Reply({**document, "hooks": [_visible(call, each) for each in document["hooks"]]})


def show(call: Call) -> Reply:
    """One hook."""
    return _shown(call)


def put(call: Call) -> Reply:
    """Add the hook. Replaces a hook with the same name."""
    new: NewHook = call.body
    given = {name: getattr(new, name) for name in NewHook.__struct_fields__}
    added = call.queue.hooks().put(call.path["name"], given, version=expected_version(call))
    return msgspec.structs.replace(_shown(call), status=200 if added.existing else 201)


def remove(call: Call) -> Reply:
    """Remove the hook."""
    call.queue.hooks().remove(call.path["name"], version=expected_version(call))
    return Reply(None, 204)


def pause(call: Call) -> Reply:
    """Pause the hook."""
    asked: HookPause = call.body
    call.queue.hooks().pause(call.path["name"], reason=asked.reason, by=call.caller.name)
    return _shown(call)


def resume(call: Call) -> Reply:
    """Resume the hook."""
    asked: HookResume = call.body
    call.queue.hooks().resume(call.path["name"], skip=asked.skip)
    return _shown(call)


def test(call: Call) -> Reply:
    """Add a job for a made-up event."""
    asked: HookTest = call.body
    id = call.queue.hooks().test(call.path["name"], asked.event, key=asked.key)
    return added_job(call, id)


def _shown(call: Call) -> Reply:
    status = call.queue.hooks().show(call.path["name"])
    return of_entry(shapes.document(hook=_visible(call, documents.hook(status))), status.version)


def _visible(call: Call, hook: dict[str, Any]) -> dict[str, Any]:
    """The hook as this caller may see it: its template may contain secrets."""
    return {**hook, "job": hook["job"] and redacted(call.caller, QUEUE, hook["job"])}


def _verb(name: str, summary: str, handler: Handler, body: Any) -> Route:
    return Route(
        method="POST",
        path=f"/v1/hooks/{{name}}/{name}",
        scope="admin",
        summary=summary,
        handler=handler,
        body=body,
        answers={200: "HookDocument"},
        errors=("not_found",),
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/hooks",
        scope="view",
        summary="All hooks with their counts",
        handler=list_,
        answers={200: "Hooks"},
    ),
    Route(
        method="GET",
        path="/v1/hooks/{name}",
        scope="view",
        summary="One hook",
        handler=show,
        answers={200: "HookDocument"},
        errors=("not_found",),
    ),
    Route(
        method="PUT",
        path="/v1/hooks/{name}",
        scope="admin",
        summary="Add a hook, or replace the one of this name",
        handler=put,
        body=NewHook,
        answers={200: "HookDocument", 201: "HookDocument"},
        errors=("changed", "conflict"),
    ),
    Route(
        method="DELETE",
        path="/v1/hooks/{name}",
        scope="admin",
        summary="Remove a hook; its jobs stay",
        handler=remove,
        body=NoBody,
        answers={204: None},
        errors=("not_found", "changed"),
    ),
    _verb("pause", "Pause a hook: it adds no jobs", pause, HookPause),
    _verb("resume", "Go on with the events of the pause, or with those from now on", resume, HookResume),
    Route(
        method="POST",
        path="/v1/hooks/{name}/test",
        scope="admin",
        summary="Add the job of a hook for a made-up event",
        handler=test,
        body=HookTest,
        answers={201: "Enqueued"},
        errors=("not_found",),
    ),
)
