"""A job as one document, and back. What is written once, what changes, and the marks that the indexes live on:

    _id       the job's number
    standing  state and queue in one word: what is counted, and listed by state
    ready     its queue, while the job may be claimed now
    delayed   its `run_at`, while it waits for that
    key       its unique key, until it has ended
    live      true until it has ended
    owed      true once it has ended, until the ledger has counted it (`ended_counts.py`)
    stamps    of the last saves: how a batch finds out which of its places were accepted

A field without a value is absent, so that an index holds only the jobs that it is about.
"""

from datetime import datetime
from typing import Any

from queuectl.domain.job import Job
from queuectl.store.driver import codec

Document = dict[str, Any]


def standing(state: str, queue: str) -> str:
    """State and queue in one word."""
    return f"{state} {queue}"


def state_and_queue(standing: str) -> tuple[Any, str]:
    """The two of them again."""
    state, _, queue = standing.partition(" ")
    return state, queue


def new(job: Job, number: int, now: datetime) -> Document:
    """The document of a job that is not stored yet."""
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
    }
    return {name: value for name, value in {**once, **_changing(job, now)}.items() if value is not None}


def change(job: Job, now: datetime, stamp: str) -> Document:
    """The update that makes the stored document this job's, one version on."""
    values = _changing(job, now)
    return {
        "$set": {name: value for name, value in values.items() if value is not None},
        "$unset": {name: "" for name, value in values.items() if value is None},
        "$inc": {"version": 1},
        "$push": {"stamps": {"$each": [stamp], "$slice": -STAMPS_KEPT}},
    }


STAMPS_KEPT = 4
"""A stamp is looked for within milliseconds: so many others will not have saved the same job meanwhile."""


def job(document: Document) -> Job:
    """The job out of its document. Raises UnreadableJob."""
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
