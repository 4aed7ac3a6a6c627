"""The routes of schedules. A token for some queues only reads them, because a schedule may enqueue anywhere."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from queuectl.errors import Forbidden, InvalidInput
from queuectl.http.call import Call, Reply
from queuectl.http.redaction import redacted
from queuectl.http.routes.selecting import added_job, expected_version, of_entry
from queuectl.http.table import Handler, NoBody, Route, action
from queuectl.service import shapes
from queuectl.service.schedules.preview import MOST
from queuectl.service.schedules.preview import preview as instants_of
from queuectl.service.shapes import schedules as documents
from queuectl.service.times import read_time

Duration = Annotated[float | str, Meta(description="seconds, or text: 5m")]
Count = Annotated[int, Meta(ge=1, le=MOST)]
Job = Annotated[
    dict[str, Any], Meta(description="the template: keys of a new job, such as command and queue")
]


class ScheduleFields(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a schedule that may be left out. Null is the default."""

    timezone: Annotated[str | None, Meta(description="an IANA name; UTC if it is not given")] = None
    overlap: Annotated[str | None, Meta(description="skip, queue, replace or allow")] = None
    catchup: Annotated[str | None, Meta(description="last, skip or all")] = None
    catchup_window: Duration | None = None
    jitter: Duration | None = None
    start: str | None = None
    end: str | None = None
    not_on: Annotated[list[str] | str | None, Meta(description="dates; or a text: 2026-12-24,2026-12-25")] = (
        None
    )


class NewSchedule(ScheduleFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole schedule: it is added, or takes the place of that of this name."""

    when: str
    job: Job


class AddedSchedule(NewSchedule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole schedule that has to be new, or the same as that of this name."""

    name: str
    paused: bool = False


class SchedulePatch(ScheduleFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change. `job` has the keys of the template that change; it needs the scope `enqueue`."""

    when: str | None = None
    job: Job | None = None


class SchedulePause(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the schedule is paused."""

    reason: Annotated[str, Meta(max_length=10_000)] | None = None


class ScheduleResume(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the catch-up policy decides the instants of the pause."""

    catch_up: bool = False


class ScheduleRun(Struct, frozen=True, forbid_unknown_fields=True):
    """`force`: although the overlap policy says no. A request that is sent again with its key adds no second job."""

    force: bool = False
    key: Annotated[str | None, Meta(description="the end of the id of the job: 26 hex digits")] = None


class ScheduleTables(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of schedules. `prune`: schedules of its owner that it does not contain go."""

    schedule: Annotated[dict[str, dict[str, Any]], Meta(description="tables by name, as in a file")]
    owner: str | None = None
    timezone: Annotated[str, Meta(description="for schedules that name none")] = "UTC"
    prune: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """The content of the file."""
        return {"owner": self.owner, "schedule": self.schedule}


class PreviewRequest(Struct, frozen=True, forbid_unknown_fields=True, rename={"begin": "from"}):
    """A rule, and the range of its instants: `next` of them, or all until `to`."""

    when: str
    timezone: str = "UTC"
    begin: str | None = None
    next: Count | UnsetType = UNSET
    to: str | None = None


class NextQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How many next instants to show."""

    next: Count = 5


class LimitQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How many decisions to show."""

    limit: Count = 20


class RemoveQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the jobs of the schedule that have not ended are cancelled."""

    cancel: bool = False


def list_(call: Call) -> Reply:
    """All schedules."""
    found, unreadable = call.queue.schedules().all()
    document = documents.schedules(found, unreadable)
    shown = [_visible(call, each) for each in document["schedules"]]
    return Reply({**document, "schedules": shown})


def show(call: Call) -> Reply:
    """One schedule."""
    query: NextQuery = call.query
    return _shown(call, query.next)


def add(call: Call) -> Reply:
    """Add a schedule. The same again changes nothing."""
    new: AddedSchedule = call.body
    added = call.queue.schedules().add(
        new.name,
        {"when": new.when, "job": new.job, **_given(new)},
        timezone="UTC",
        paused=new.paused,
        by=call.caller.name,
    )
    shown = _shown(call, name=new.name)
    document = {**(shown.document or {}), "existing": added.existing}
    return msgspec.structs.replace(shown, document=document, status=200 if added.existing else 201)


def put(call: Call) -> Reply:
    """Add the schedule, or replace the one of this name."""
    new: NewSchedule = call.body
    given = {"when": new.when, "job": new.job, **_given(new)}
    added = call.queue.schedules().put(
        call.path["name"], given, timezone="UTC", version=expected_version(call), by=call.caller.name
    )
    return msgspec.structs.replace(_shown(call), status=200 if added.existing else 201)


def change(call: Call) -> Reply:
    """Change fields of the schedule."""
    asked: SchedulePatch = call.body
    given = _given(asked) | ({} if asked.when is None else {"when": asked.when})
    if not given and not asked.job:
        raise InvalidInput("no change is given", "give when, overlap, job or another field")
    if asked.job and not call.caller.may("enqueue"):
        raise Forbidden("a change of the job needs the scope enqueue", "leave out job, or use another token")
    call.queue.schedules().edit(call.path["name"], given, asked.job or {}, version=expected_version(call))
    return _shown(call)


def remove(call: Call) -> Reply:
    """Remove the schedule."""
    query: RemoveQuery = call.query
    call.queue.schedules().remove(
        call.path["name"], cancel=query.cancel, by=call.caller.name, version=expected_version(call)
    )
    return Reply(None, 204)


def pause(call: Call) -> Reply:
    """Pause the schedule."""
    asked: SchedulePause = call.body
    call.queue.schedules().pause(call.path["name"], reason=asked.reason, by=call.caller.name)
    return _shown(call)


def resume(call: Call) -> Reply:
    """Resume the schedule."""
    asked: ScheduleResume = call.body
    call.queue.schedules().resume(call.path["name"], catch_up=asked.catch_up)
    return _shown(call)


def run(call: Call) -> Reply:
    """Run its job now."""
    asked: ScheduleRun = call.body
    id = call.queue.schedules().run(call.path["name"], force=asked.force, key=asked.key)
    return added_job(call, id)


def diff(call: Call) -> Reply:
    """What an apply of the file would change."""
    asked: ScheduleTables = call.body
    if call.caller.queues is not None:
        raise Forbidden(
            f"{call.caller.name} may not compare schedules",
            "the values of jobs of other queues would be shown",
        )
    found = call.queue.schedules().compare(asked.document, timezone=asked.timezone, prune=asked.prune)
    return Reply(documents.difference(found, dry_run=True))


def apply(call: Call) -> Reply:
    """Make the stored schedules equal to the file."""
    asked: ScheduleTables = call.body
    if asked.prune and not call.caller.may("operate"):
        raise Forbidden("prune needs the scope operate", "leave out prune, or use another token")
    found = call.queue.schedules().apply(
        asked.document, timezone=asked.timezone, prune=asked.prune, by=call.caller.name
    )
    return Reply(documents.difference(found, dry_run=False))


def history(call: Call) -> Reply:
    """The newest decisions."""
    query: LimitQuery = call.query
    return Reply(documents.history(call.queue.schedules().history(call.path["name"], query.limit)))


def preview(call: Call) -> Reply:
    """The instants of a rule."""
    asked: PreviewRequest = call.body
    now = datetime.now(UTC)
    found = instants_of(
        asked.when,
        asked.timezone,
        read_time(asked.begin, now).at if asked.begin else now,
        inclusive=bool(asked.begin),
        count=5 if asked.next is UNSET else asked.next,
        end=read_time(asked.to, now).at if asked.to else None,
    )
    return Reply(documents.preview(found))


def _given(asked: ScheduleFields) -> dict[str, Any]:
    found = {name: getattr(asked, name) for name in ScheduleFields.__struct_fields__}
    return {name: value for name, value in found.items() if value is not None}


def _shown(call: Call, count: int = 5, *, name: str | None = None) -> Reply:
    status = call.queue.schedules().show(name or call.path["name"], count)
    return of_entry(shapes.document(schedule=_visible(call, documents.schedule(status))), status.version)


def _visible(call: Call, schedule: dict[str, Any]) -> dict[str, Any]:
    """The schedule as this caller may see it: its template may contain secrets."""
    job = schedule["job"]
    return {**schedule, "job": redacted(call.caller, job.get("queue") or "default", job)}


def _verb(name: str, summary: str, handler: Handler, body: Any) -> Route:
    path = f"/v1/schedules/{{name}}/{name}"
    return action(path, summary, handler, body, answer="ScheduleDocument", errors=("not_found",))


ROUTES = (
    Route(
        method="GET",
        path="/v1/schedules",
        scope="view",
        summary="All schedules with their next instants and their last job",
        handler=list_,
        answers={200: "Schedules"},
    ),
    Route(
        method="POST",
        path="/v1/schedules",
        scope="enqueue",
        summary="Add a schedule; the same again changes nothing",
        handler=add,
        body=AddedSchedule,
        answers={200: "AddedSchedule", 201: "AddedSchedule"},
        errors=("conflict",),
    ),
    Route(
        method="POST",
        path="/v1/schedules/apply",
        scope="enqueue",
        summary="Make the schedules equal to a file; `prune` needs `operate` too",
        handler=apply,
        body=ScheduleTables,
        answers={200: "Difference"},
    ),
    Route(
        method="POST",
        path="/v1/schedules/diff",
        scope="enqueue",
        summary="What an apply of a file would change; changes nothing",
        handler=diff,
        body=ScheduleTables,
        answers={200: "Difference"},
        reads=True,
    ),
    Route(
        method="POST",
        path="/v1/schedules/preview",
        scope="view",
        summary="The instants of a rule; stores nothing",
        handler=preview,
        body=PreviewRequest,
        answers={200: "Preview"},
        reads=True,
    ),
    Route(
        method="GET",
        path="/v1/schedules/{name}",
        scope="view",
        summary="One schedule",
        handler=show,
        query=NextQuery,
        answers={200: "ScheduleDocument"},
        errors=("not_found",),
    ),
    Route(
        method="PUT",
        path="/v1/schedules/{name}",
        scope="enqueue",
        summary="Add a schedule, or replace the one of this name",
        handler=put,
        body=NewSchedule,
        answers={200: "ScheduleDocument", 201: "ScheduleDocument"},
        errors=("changed",),
    ),
    Route(
        method="PATCH",
        path="/v1/schedules/{name}",
        scope="operate",
        summary="Change fields of a schedule",
        handler=change,
        body=SchedulePatch,
        answers={200: "ScheduleDocument"},
        errors=("not_found", "changed"),
    ),
    Route(
        method="DELETE",
        path="/v1/schedules/{name}",
        scope="operate",
        summary="Remove a schedule; its jobs stay, or with `cancel` are cancelled",
        handler=remove,
        query=RemoveQuery,
        body=NoBody,
        answers={204: None},
        errors=("not_found", "changed"),
    ),
    _verb("pause", "Pause a schedule: nothing fires, and nothing is missed", pause, SchedulePause),
    _verb("resume", "Go on with the next instant", resume, ScheduleResume),
    Route(
        method="POST",
        path="/v1/schedules/{name}/run",
        scope="operate",
        summary="Run the job of a schedule now",
        handler=run,
        body=ScheduleRun,
        answers={201: "Enqueued"},
        errors=("not_found", "conflict"),
    ),
    Route(
        method="GET",
        path="/v1/schedules/{name}/history",
        scope="view",
        summary="The newest decisions of a schedule",
        handler=history,
        query=LimitQuery,
        answers={200: "Decisions"},
        errors=("not_found",),
    ),
)
