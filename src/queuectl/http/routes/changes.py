"""The routes that change one job: cancel, retry, hold, release, edit, delete."""

from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

from msgspec import Meta, Struct

from queuectl.domain.ids import is_several
from queuectl.domain.names import LONGEST
from queuectl.errors import InvalidInput
from queuectl.http.call import Call, Reply
from queuectl.http.redaction import redacted
from queuectl.http.routes.selecting import etag, expected_version
from queuectl.http.table import Handler, NoBody, Route, action
from queuectl.service import shapes
from queuectl.service.changing import Change
from queuectl.service.operation import Operation
from queuectl.service.times import time_of

ERRORS = ("not_found", "conflict", "changed", "unreadable")


class Cancel(Struct, frozen=True, forbid_unknown_fields=True):
    """The reason is stored with the job."""

    reason: Annotated[str, Meta(max_length=10_000)] | None = None


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """`force`: also a completed job. `alone`: without its parents, and without the jobs that wait for it."""

    force: bool = False
    alone: bool = False


class Release(Struct, frozen=True, forbid_unknown_fields=True):
    """`anyway`: without waiting for its parents."""

    anyway: bool = False


class Edit(Struct, frozen=True, forbid_unknown_fields=True):
    """The new values. `run_at` is a time of RFC 3339, `now`, `@EPOCH`, or a time of day in the server's zone."""

    priority: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    run_at: str | None = None
    queue: Annotated[str, Meta(min_length=1, max_length=LONGEST)] | None = None


def cancel(call: Call) -> Reply:
    """Never start the job; if it runs, its worker ends it."""
    steps = call.queue.cancel(
        _one(call), by=call.caller.name, reason=call.body.reason, version=expected_version(call)
    )
    return _answer(call, steps)


def retry(call: Call) -> Reply:
    """Run the job once more. Jobs that were cancelled because of it wait for it again."""
    asked: Retry = call.body
    steps = call.queue.retry(_one(call), force=asked.force, alone=asked.alone, version=expected_version(call))
    return _answer(call, steps)


def hold(call: Call) -> Reply:
    """Keep the job from starting."""
    return _answer(call, call.queue.hold(_one(call), version=expected_version(call)))


def release(call: Call) -> Reply:
    """Let a held job start when it is due."""
    steps = call.queue.release(_one(call), anyway=call.body.anyway, version=expected_version(call))
    return _answer(call, steps)


def edit(call: Call) -> Reply:
    """Change the priority, start time or queue of a job that has not started."""
    asked: Edit = call.body
    if asked == Edit():
        raise InvalidInput("no change is given", "give priority, run_at or queue")
    run_at = None if asked.run_at is None else time_of("run_at", asked.run_at, call.queue.now())
    steps = call.queue.edit(
        _one(call),
        priority=asked.priority,
        run_at=run_at,
        queue=asked.queue,
        version=expected_version(call),
    )
    return _answer(call, steps)


def delete(call: Call) -> Reply:
    """Delete an ended job with its output."""
    [own] = _changes(call.queue.delete(_one(call), version=expected_version(call)))
    if own.refused:
        raise own.refused
    return Reply(None, 204)


def _one(call: Call) -> list[str]:
    """The reference of the path. Raises InvalidInput if it means several jobs."""
    reference = call.path["ref"]
    if is_several(reference) and len(call.queue.resolve([reference])) > 1:
        raise InvalidInput(
            f"{reference} means several jobs, one is expected", "send one request for each job"
        )
    return [reference]


def _changes(steps: Operation[Sequence[Change]]) -> list[Change]:
    with closing(steps):
        return [change for step in steps for change in step]


def _answer(call: Call, steps: Operation[Sequence[Change]]) -> Reply:
    """The job after the change. Raises the refusal if the job was not changed."""
    own, *revived = _changes(steps)
    if own.refused or own.job is None:
        assert own.refused
        raise own.refused
    shown = shapes.changed(own, revived)
    shown["job"] = redacted(call.caller, own.job.queue, shown["job"])
    if revived:
        shown["revived"] = [redacted(call.caller, job["queue"], job) for job in shown["revived"]]
    return Reply(shown, headers={"ETag": etag(own.job)})


def _verb(name: str, summary: str, handler: Handler, body: object = NoBody) -> Route:
    return action(f"/v1/jobs/{{ref}}/{name}", summary, handler, body, answer="ChangedJob", errors=ERRORS)


ROUTES = (
    _verb("cancel", "Never start a job; end it if it runs", cancel, Cancel),
    _verb("retry", "Run an ended job once more", retry, Retry),
    _verb("hold", "Keep a waiting job from starting", hold),
    _verb("release", "Let a held job start when it is due", release, Release),
    Route(
        method="PATCH",
        path="/v1/jobs/{ref}",
        scope="operate",
        summary="Change the priority, start time or queue of a job that has not started",
        handler=edit,
        body=Edit,
        answers={200: "ChangedJob"},
        errors=ERRORS,
    ),
    Route(
        method="DELETE",
        path="/v1/jobs/{ref}",
        scope="operate",
        summary="Delete an ended job with its output",
        handler=delete,
        body=NoBody,
        answers={204: None},
        errors=("not_found", "conflict", "changed"),
    ),
)
