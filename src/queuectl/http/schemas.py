"""JSON schemas of the documents that the routes answer, made from the records of `service/shapes`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from msgspec import Struct

from queuectl.domain.job import Attempt, CancelRequest, Lease, Parent, Progress
from queuectl.service.shapes import diagnosis, events, jobs, operations, overview, tokens, workers
from queuectl.service.shapes.record import SCHEMA, Record
from queuectl.service.status import Attention, LastHour
from queuectl.service.worker_status import SlotStatus

Schema = dict[str, Any]

NOTHING: Schema = {"type": "null"}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
SECONDS: Schema = {"type": "number", "description": "seconds"}
BYTES: Schema = {"anyOf": [TEXT, {"type": "object", "properties": {"base64": TEXT}, "required": ["base64"]}]}
COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}

_SIMPLE: dict[Any, Schema] = {
    str: TEXT, int: COUNT, float: {"type": "number"}, bool: FLAG, NoneType: NOTHING, datetime: INSTANT,
    timedelta: SECONDS, bytes: BYTES, Any: {},
}  # fmt: skip
_RECORDS: dict[type[Struct], Record[Any]] = {
    Attempt: jobs.ATTEMPT,
    CancelRequest: jobs.CANCEL_REQUEST,
    Lease: jobs.LEASE,
    Parent: jobs.PARENT,
    Progress: jobs.PROGRESS,
    SlotStatus: workers.SLOT,
    Attention: overview.ATTENTION,
    LastHour: overview.LAST_HOUR,
}


def of(annotation: Any) -> Schema:
    """The schema of values of this type, as the records write them."""
    if annotation in _RECORDS:
        return of_record(_RECORDS[annotation])
    if annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return {"anyOf": [of(each) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": of(arguments[1])}
    return {"type": "array", "items": of(arguments[0])}


def of_record(record: Record[Any], **others: Schema) -> Schema:
    """The schema of the objects of a record. `others`: keys that are not written as their types say."""
    return an_object({key: others[key] if key in others else of(kind) for key, kind in record.types.items()})


def an_object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object with these keys; further keys may be added in a later version."""
    required = [key for key in properties if key not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def a_list(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, NOTHING]}


def named(name: str) -> Schema:
    """A reference to a schema in `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def a_document(
    properties: Mapping[str, Schema] | None = None, *, optional: tuple[str, ...] = (), **more: Schema
) -> Schema:
    """A whole answer."""
    return an_object({"schema": {"const": SCHEMA}, **(properties or {}), **more}, optional=optional)


_JOB = of_record(
    jobs.JOB,
    backoff=an_object(
        {"base": {"type": "number"}, "factor": SECONDS, "max": SECONDS, "jitter": {"type": "number"}}
    ),
    umask=or_null(TEXT),
    env=or_null({"type": "object", "additionalProperties": TEXT}),
    argv=or_null(a_list(TEXT)),
)
_JOB["properties"]["redacted"] = a_list(TEXT)
del _JOB["required"]  # `fields` chooses the keys
_QUEUE = an_object(
    {
        "name": TEXT,
        "paused": FLAG,
        "limit": or_null(COUNT),
        "pending": COUNT,
        "processing": COUNT,
        "jobs": COUNTS,
        "reason": or_null(TEXT),
        "version": COUNT,
        "oldest_due_seconds": or_null(SECONDS),
        "oldest_due": or_null(INSTANT),
    },
    optional=(
        "paused", "limit", "pending", "processing", "jobs", "reason", "version", "oldest_due_seconds", "oldest_due",
    ),
)  # fmt: skip
_SETTING = an_object({"key": TEXT, "value": {}, "origin": TEXT, "help": TEXT})
_ERROR = an_object({"code": TEXT, "message": TEXT, "hint": or_null(TEXT)})
_REFUSED = an_object({"index": COUNT, "id": or_null(TEXT), "error": _ERROR})
_STATES = a_list(an_object({"id": TEXT, "state": TEXT}))
_TOKEN = of_record(tokens.TOKEN, secret_ids=a_list(an_object({"id": TEXT, "until": or_null(INSTANT)})))
_CLAIMS = {
    "id": TEXT,
    "name": TEXT,
    "host": TEXT,
    "last_heartbeat": or_null(INSTANT),
    "jobs": a_list(TEXT),
    "taken_back_at": or_null(INSTANT),
    "worker": named("Worker"),
    "claims": a_list(named("Job")),
}
_IMPORTED = an_object(
    {
        **dict.fromkeys(("jobs", "entries", "existing", "skipped", "replaced", "renumbered"), COUNT),
        "complete": FLAG,
        "by_kind": {"type": "object", "additionalProperties": COUNTS},
        "dry_run": FLAG,
    }
)
_WAITED = an_object(
    {
        "id": TEXT,
        "state": TEXT,
        "outcome": or_null(TEXT),
        "exit_code": or_null(COUNT),
        "signal": or_null(COUNT),
    }
)
_ENQUEUED = an_object(
    {"id": TEXT, "number": COUNT, "state": TEXT, "existing": FLAG, "finished_at": or_null(INSTANT)},
    optional=("existing", "finished_at"),
)
_ANY_OBJECT: Schema = {"type": "object"}
_OPERATION = of_record(
    operations.OPERATION, args={"type": "object"}, refused=a_list(of_record(operations.REFUSED_JOB))
)
_SCHEDULE = an_object(
    {
        "name": TEXT,
        "when": TEXT,
        "description": or_null(TEXT),
        "timezone": TEXT,
        "next": or_null(a_list(INSTANT)),
        "last": or_null(an_object({"instant": INSTANT, "job": TEXT, "state": or_null(TEXT)})),
        "paused": or_null(an_object({"by": TEXT, "at": INSTANT, "reason": or_null(TEXT)})),
        "overlap": TEXT,
        "catchup": TEXT,
        "catchup_window": SECONDS,
        "jitter": SECONDS,
        "start": or_null(INSTANT),
        "end": or_null(INSTANT),
        "not_on": a_list(TEXT),
        "owner": or_null(TEXT),
        "job": _ANY_OBJECT,
        "anchor": INSTANT,
        "due": or_null(INSTANT),
        "ended": FLAG,
        "notes": a_list(TEXT),
        "problem": or_null(TEXT),
        "version": COUNT,
    }
)
_HOOK = an_object(
    {
        "name": TEXT,
        "on": a_list(TEXT),
        "where": or_null(TEXT),
        "job": or_null(_ANY_OBJECT),
        "url": or_null(TEXT),
        "secret": or_null(TEXT),
        "headers": {"type": "object", "additionalProperties": TEXT},
        "timeout": or_null(SECONDS),
        "proxy": or_null(TEXT),
        "paused": or_null(an_object({"by": TEXT, "at": INSTANT, "reason": or_null(TEXT)})),
        "matched": COUNT,
        "delivered": COUNT,
        "created_at": INSTANT,
        "failing_since": or_null(INSTANT),
        "gap": or_null(INSTANT),
        "cursor": TEXT,
        "version": COUNT,
    }
)
_DECISION = an_object(
    {
        "instant": INSTANT,
        "decided_at": INSTANT,
        "decision": TEXT,
        "count": COUNT,
        "first": or_null(INSTANT),
        "job": or_null(TEXT),
        "state": or_null(TEXT),
        "reason": or_null(TEXT),
    }
)

SCHEMAS: dict[str, Schema] = {
    "Job": _JOB,
    "Queue": _QUEUE,
    "Worker": of_record(workers.WORKER, reported=or_null(_ANY_OBJECT)),
    "Problem": an_object(
        {
            "type": TEXT,
            "title": TEXT,
            "status": COUNT,
            "detail": TEXT,
            "instance": TEXT,
            "schema": {"const": SCHEMA},
            "code": TEXT,
            "hint": or_null(TEXT),
            "exit_code": COUNT,
            "errors": a_list(an_object({"pointer": TEXT, "detail": TEXT})),
        },
        optional=("errors",),
    ),
    "Jobs": a_document(
        jobs=a_list(named("Job")),
        next=or_null(TEXT),
        unreadable=a_list(of_record(jobs.UNREADABLE)),
    ),
    "JobDocument": a_document(job=named("Job")),
    "ChangedJob": a_document(
        job=named("Job"), changed=FLAG, revived=a_list(named("Job")), optional=("revived",)
    ),
    "Enqueued": a_document(
        jobs=a_list(_ENQUEUED),
        refused=a_list(_REFUSED),
        added=COUNT,
        existing=COUNT,
        refused_count=COUNT,
        optional=("jobs", "refused", "added", "existing", "refused_count"),
    ),
    "Explanation": a_document(of_record(diagnosis.EXPLANATION)["properties"]),
    "Resolved": a_document(jobs=a_list(TEXT), dependencies=a_list(TEXT)),
    "Counts": a_document(queues={"type": "object", "additionalProperties": COUNTS}),
    "Waited": a_document(
        done=FLAG, jobs=a_list(_WAITED), missing=a_list(TEXT), waiting=COUNT, obstacles=a_list(TEXT)
    ),
    "Output": a_document(
        job=TEXT,
        attempt=or_null(COUNT),
        attempt_id=or_null(TEXT),
        bytes=COUNT,
        pieces=a_list(_ANY_OBJECT),
    ),
    "Status": a_document(
        store=an_object({"url": TEXT, "durability": TEXT}),
        jobs=COUNTS,
        queues=a_list(named("Queue")),
        slots=COUNTS,
        without_slot=COUNTS,
        workers=a_list(named("Worker")),
        last_hour=of(LastHour),
        attention=a_list(of(Attention)),
        now=INSTANT,
    ),
    "Stats": a_document(
        since=INSTANT,
        until=INSTANT,
        complete_until=INSTANT,
        rows=a_list(
            an_object(
                {
                    "key": TEXT,
                    "ended": COUNT,
                    "completed": COUNT,
                    "failed": COUNT,
                    "dead": COUNT,
                    "per_minute": {"type": "number"},
                    "wait": an_object(dict.fromkeys(("p50", "p95"), or_null(SECONDS))),
                    "run": an_object(dict.fromkeys(("p50", "p95", "p99", "max"), or_null(SECONDS))),
                    "cpu": SECONDS,
                    "exit_codes": COUNTS,
                }
            )
        ),
    ),
    "Events": a_document(
        events=a_list(
            an_object({"schema": {"const": SCHEMA}, "id": TEXT, **of_record(events.EVENT)["properties"]})
        ),
        next=TEXT,
        gap=FLAG,
    ),
    "Queues": a_document(queues=a_list(named("Queue"))),
    "QueueDocument": a_document(queue=named("Queue")),
    "Workers": a_document(workers=a_list(named("Worker"))),
    "WorkerDocument": a_document(worker=named("Worker")),
    "WorkerStates": a_document(workers=_STATES),
    "Claims": a_document(_CLAIMS),
    "Forgotten": a_document(
        forgotten=a_list(TEXT),
        taken_back=a_list(TEXT),
        claims=a_list(an_object(_CLAIMS)),
        jobs=a_list(named("Job")),
    ),
    "Settings": a_document(settings=a_list(_SETTING)),
    "SettingDocument": a_document(setting=_SETTING),
    "Schedules": a_document(schedules=a_list(_SCHEDULE), unreadable=a_list(TEXT)),
    "ScheduleDocument": a_document(schedule=_SCHEDULE),
    "Hooks": a_document(hooks=a_list(_HOOK), unreadable=a_list(TEXT)),
    "HookDocument": a_document(hook=_HOOK),
    "AddedSchedule": a_document(schedule=_SCHEDULE, existing=FLAG),
    "Difference": a_document(
        dry_run=FLAG,
        added=a_list(TEXT),
        changed={
            "type": "object",
            "additionalProperties": a_list(an_object({"field": TEXT, "old": {}, "new": {}})),
        },
        removed=a_list(TEXT),
        unchanged=a_list(TEXT),
    ),
    "Decisions": a_document(decisions=a_list(_DECISION)),
    "Operations": a_document(operations=a_list(_OPERATION)),
    "OperationDocument": a_document(operation=_OPERATION),
    "OperationOrPreview": {
        "anyOf": [
            a_document(operation=_OPERATION),
            a_document(dry_run=FLAG, matched=COUNT, by_state=COUNTS, sample=a_list(TEXT)),
        ]
    },
    "Preview": a_document(description=TEXT, instants=a_list(INSTANT), notes=a_list(TEXT)),
    "Imported": a_document({"import": _IMPORTED}),
    "Tokens": a_document(tokens=a_list(_TOKEN)),
    "TokenDocument": a_document(token=_TOKEN),
    "IssuedToken": a_document(token=_TOKEN, secret=TEXT),
    "Checks": a_document(ok=FLAG, checks=a_list(of_record(diagnosis.CHECK))),
    "Readiness": a_document(ready=FLAG, checks=_ANY_OBJECT),
    "Server": a_document(
        version=TEXT,
        api=COUNT,
        store=an_object({"durability": TEXT}),
        now=INSTANT,
        scopes=a_list(TEXT),
        read_only=FLAG,
        draining=FLAG,
        limits=_ANY_OBJECT,
        optional=("store", "now", "scopes", "read_only", "draining", "limits"),
    ),
}
"""The documents by the names that the route table uses."""
