"""Converts a job to a document and back. Beside the columns of the codec a document has these fields for indexes:

    _id       the job's number
    standing  state and queue in one word; jobs are counted and listed by it
    ready     the queue, while the job may be claimed now
    delayed   `run_at`, while the job waits for that time
    key       the unique key, until the job has ended
    live      true until the job has ended
    owed      true once the job has ended, until the counts of ended jobs include it (`ended_counts.py`)
    stamps    random ids of the last saves, by which a batch finds out which of its jobs were accepted
    events    the events of the job that are not published yet, each with the version `v` of its change, its time `at`,
              and its `line`; one that the server made has the fields `event` instead, and `i`, its place in the batch
    unpublished  true while there are such events (`publish.py`)

A field without a value is absent, so that a partial index holds only the jobs that have the field.
"""

from datetime import datetime
from typing import Any

from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.store.driver import codec

Document = dict[str, Any]


def standing(state: str, queue: str) -> str:
    """The standing of a job: its state and queue in one word."""
    return f"{state} {queue}"


def state_and_queue(standing: str) -> tuple[Any, str]:
    """The state and the queue in a standing."""
    state, _, queue = standing.partition(" ")
    return state, queue


def new(job: Job, number: int, now: datetime, event: Event | None = None) -> Document:
    """The document of a new job, with its event."""
    spec = job.spec
    once = {
        "_id": number,
        "id": job.id,
        "created_at": codec.micros(job.created_at),
        "version": job.version,
        "tags": list(spec.tags) or None,
        "batch": spec.batch,
        "unique_key": spec.unique_key,
        "spec": codec.to_json(spec),
        "events": None if event is None else [_entry(event, job.version, now)],
        "unpublished": None if event is None else True,
    }
    return {name: value for name, value in {**once, **_changing(job, now)}.items() if value is not None}


def change(job: Job, now: datetime, stamp: str, event: Event | None = None) -> Document:
    """The update that changes the stored document to this job, raises its version, and pushes the event."""
    values = _changing(job, now)
    update: Document = {
        "$set": {name: value for name, value in values.items() if value is not None},
        "$unset": {name: "" for name, value in values.items() if value is None},
        "$inc": {"version": 1},
        "$push": {"stamps": {"$each": [stamp], "$slice": -STAMPS_KEPT}},
    }
    if event is not None:
        update["$push"]["events"] = _entry(event, job.version + 1, now)
        update["$set"]["unpublished"] = True
    return update


def _entry(event: Event, version: int, now: datetime) -> Document:
    return {"v": version, "at": codec.micros(now), "line": codec.event_line(event)}


def made(event: Document, now: Any, place: Any = 0) -> Document:
    """The fields that an update by expressions sets, so that the server makes an event and raises the version.

    `event` has the fields of the event as expressions. Those of every event are added.
    """
    fields = {"job": "$id", "queue": "$queue", "batch": "$batch", "before": "$state", **event}
    version = {"$add": ["$version", 1]}
    entry = {"v": version, "at": now, "i": place, "event": fields}
    before = {"$cond": [{"$isArray": "$events"}, "$events", []]}
    return {"version": version, "events": {"$concatArrays": [before, [entry]]}, "unpublished": True}


STAMPS_KEPT = 16
"""A batch reads its stamps back at once. Fewer than this many other saves change a job in that time: with four, five
writers on a busy machine once made an accepted save look stale."""


def job(document: Document) -> Job:
    """The job in a document. Raises UnreadableJob."""
    waiting = document.get("waiting_for")
    if isinstance(waiting, list) and all(isinstance(name, str) for name in waiting):
        document["waiting_for"] = codec.to_json(waiting)
    document["number"] = document["_id"]
    return codec.job([document.get(column) for column in codec.COLUMNS])


def _changing(job: Job, now: datetime) -> Document:
    values: Document = dict(zip(codec.CHANGING, codec.changing(job), strict=True))
    due = codec.due(job, now)
    values["waiting_for"] = list(job.waiting_for) or None
    values["standing"] = standing(job.state, job.queue)
    values["ready"] = job.queue if due == 1 else None
    values["delayed"] = values["run_at"] if due == 0 else None
    values["key"] = None if job.ended else job.spec.unique_key
    values["live"], values["owed"] = (None, True) if job.ended else (True, None)
    return values
