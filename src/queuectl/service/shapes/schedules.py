"""The documents of schedules. Only the commands and routes of schedules load this module."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from queuectl.domain.schedule import Decision, Pause, Schedule
from queuectl.domain.schedule_definition import FIELDS, fields_of
from queuectl.domain.schedule_difference import Difference
from queuectl.service.schedules.preview import Preview
from queuectl.service.schedules.reading import Decided, ScheduleStatus
from queuectl.service.shapes.record import build, document, instant, seconds


def schedule(status: ScheduleStatus) -> dict[str, Any]:
    """A schedule with its next instants and its last job."""
    each, last = status.schedule, status.last
    fields = fields_of(each)
    return {
        "name": each.name,
        "when": each.when,
        "description": status.description,
        "timezone": each.timezone,
        "next": None if status.next is None else [instant(at) for at in status.next],
        "last": last and {"instant": instant(last.instant), "job": last.job, "state": last.state},
        "paused": each.paused and pause(each.paused),
        "overlap": each.overlap,
        "catchup": each.catchup,
        "catchup_window": seconds(each.catchup_window),
        "jitter": seconds(each.jitter),
        "start": instant(each.start),
        "end": instant(each.end),
        "not_on": [day.isoformat() for day in each.not_on],
        "owner": each.owner,
        "job": fields["job"],
        "anchor": instant(each.anchor),
        "due": instant(status.due),
        "ended": status.ended,
        "notes": list(status.notes),
        "problem": status.problem,
        "version": status.version,
    }


def status_of(shown: Mapping[str, Any]) -> ScheduleStatus:
    """A schedule from its document, without its open jobs and its decisions."""
    first = (shown["next"] or [None])[0]
    spans = {name: timedelta(seconds=shown[name]) for name in ("catchup_window", "jitter")}
    fields = {name: shown[name] for name in (*FIELDS, "name", "anchor", "paused")}
    others = {
        name: shown[name] for name in ("description", "next", "last", "due", "ended", "problem", "version")
    }
    return build(
        {**others, "notes": shown["notes"], "schedule": build({**fields, **spans, "next": first}, Schedule)},
        ScheduleStatus,
    )


def schedules_of(document: Mapping[str, Any]) -> tuple[list[ScheduleStatus], list[str]]:
    """All schedules, and the names of those that the server cannot read, from their document."""
    return [status_of(each) for each in document["schedules"]], list(document["unreadable"])


def pause(paused: Pause) -> dict[str, Any]:
    """Who paused a schedule, when and why."""
    return {"by": paused.by, "at": instant(paused.at), "reason": paused.reason}


def schedules(found: Sequence[ScheduleStatus], unreadable: Sequence[str]) -> dict[str, Any]:
    """The document of all schedules."""
    return document(schedules=[schedule(each) for each in found], unreadable=list(unreadable))


def history(found: Sequence[Decided]) -> dict[str, Any]:
    """The document of the decisions of a schedule."""
    return document(decisions=[_decision(each) for each in found])


def history_of(document: Mapping[str, Any]) -> list[Decided]:
    """The decisions of a schedule, from their document."""
    return [Decided(build(each, Decision), each["state"]) for each in document["decisions"]]


def _decision(decided: Decided) -> dict[str, Any]:
    decision = decided.decision
    return {
        "instant": instant(decision.instant),
        "decided_at": instant(decision.decided_at),
        "decision": decision.decision,
        "count": decision.count,
        "first": instant(decision.first),
        "job": decision.job,
        "state": decided.state,
        "reason": decision.reason,
    }


def preview(found: Preview) -> dict[str, Any]:
    """The document of the instants of a rule."""
    return document(
        description=found.description,
        instants=[instant(at) for at in found.instants],
        notes=list(found.notes),
    )


def difference(found: Difference, *, dry_run: bool) -> dict[str, Any]:
    """The document of what an apply does."""
    return document(
        dry_run=dry_run,
        added=list(found.added),
        changed={
            name: [{"field": each.field, "old": each.old, "new": each.new} for each in changes]
            for name, changes in found.changed.items()
        },
        removed=list(found.removed),
        unchanged=list(found.unchanged),
    )


def difference_of(document: Mapping[str, Any]) -> Difference:
    """What an apply does, from its document."""
    return build(document, Difference)


def definitions(found: Sequence[Schedule]) -> dict[str, Any]:
    """The document of a file of schedules."""
    from queuectl.domain.schedule_file import fields_shown

    tables = {each.name: {**fields_shown(each), "paused": each.paused is not None} for each in found}
    return document(schedule=tables)
