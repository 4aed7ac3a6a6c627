"""Adds and changes jobs. A batch is sent as one JSON text, and is one transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.store.driver import codec, verdict
from queuectl.store.driver.numbering import brought
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Added

SQL = statements("jobs")


def add(line: Line, jobs: Sequence[Job], now: datetime, events: Sequence[Event | None] = ()) -> list[Added]:
    """Insert the jobs whose ids are absent; then find the reason for each refused job."""
    rows = [newcomer(place, job, now) for place, job in enumerate(jobs)]
    way = "import" if any(map(brought, jobs)) else "add"
    if any(job.progress for job in jobs):
        numbers = line.value(SQL["import_progress"], (codec.to_json(rows), codec.to_json(events)))
    elif events:
        numbers = line.value(SQL[f"{way}_and_tell"], (codec.to_json(rows), codec.to_json(events)))
    else:
        numbers = line.value(SQL[way], (codec.to_json(rows),))
    told = events or [None] * len(jobs)
    return [
        _why_not(line, job, now, event) if number is None else Added("added", replace(job, number=number))
        for job, number, event in zip(jobs, numbers, told, strict=True)
    ]


def save(
    line: Line, jobs: Sequence[Job], now: datetime, events: Sequence[Event | None] = ()
) -> list[SaveResult]:
    """Compare-and-swap on the version, job by job. A job that is in the batch twice is saved once."""
    first = {job.id: place for place, job in reversed(list(enumerate(jobs)))}
    rows = [_row(place, jobs[place], now) for place in sorted(first.values())]
    if any(map(_may_change_progress, jobs)):
        texts = {"jobs": codec.to_json(rows), "events": codec.to_json(events)}
        answer = line.rows(SQL["save_progress"], texts)
    elif any(events):
        answer = line.rows(SQL["save_and_tell"], (codec.to_json(rows), codec.to_json(events)))
    else:
        answer = line.rows(SQL["save"], (codec.to_json(rows),))
    words: dict[int, str] = dict(answer)
    return [_result(job, words.get(place)) for place, job in enumerate(jobs)]


def _may_change_progress(job: Job) -> bool:
    """Whether the stored progress may differ.

    A job without a progress that runs or ends has at most that of an earlier attempt stored, which readers ignore. So
    the usual save writes no row of `body`.
    """
    return job.progress is not None or (job.lease is None and not job.ended and bool(job.attempts))


def _result(job: Job, word: str | None) -> SaveResult:
    """The result for a word that the schema's function returns."""
    if word == "accepted":
        return job.version + 1
    return "duplicate" if word == "taken" else "stale"


def _row(place: int, job: Job, now: datetime) -> dict[str, Any]:
    row = dict(zip(codec.CHANGING, codec.changing(job), strict=True))
    row["waiting_for"] = job.waiting_for or None
    return {
        "place": place,
        "number": brought(job),
        "id": job.id,
        "version": job.version,
        "due": codec.due(job, now),
        **row,
    }


def newcomer(place: int, job: Job, now: datetime) -> dict[str, Any]:
    """A new job as the schema's functions expect it."""
    spec = job.spec
    return {
        **_row(place, job, now),
        "created_at": codec.micros(job.created_at),
        "unique_key": spec.unique_key,
        "batch": spec.batch,
        "tags": spec.tags or None,
        "spec": codec.to_json(spec),
    }


def _why_not(line: Line, job: Job, now: datetime, event: Event | None) -> Added:
    known, damaged = codec.sift(line.rows(SQL["by_ids"], {"ids": [job.id]}))
    if known:
        return verdict.known(job, known[0])
    holder, damaged_holder = codec.sift(line.rows(SQL["alive_by_key"], (job.spec.unique_key,)))
    if holder and not damaged:
        return Added("duplicate", holder[0])
    for each in (*damaged, *damaged_holder):
        return verdict.unreadable(job, each)
    # The job that had the id or the key was deleted meanwhile, so this job can be added.
    return add(line, [job], now, [event])[0]
