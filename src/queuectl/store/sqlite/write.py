"""Adds and changes jobs: operations that run inside a transaction of the writer."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import apsw
from msgspec.structs import replace

from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.store.driver import codec, verdict
from queuectl.store.driver.numbering import numbered
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.protocol import Added
from queuectl.store.sqlite import events as told
from queuectl.store.sqlite import find, rows
from queuectl.store.sqlite.sql import statements

SQL = statements("jobs")


def add(
    connection: apsw.Connection,
    jobs: Sequence[Job],
    now: Callable[[], datetime],
    events: Sequence[Event | None] = (),
) -> list[Added]:
    """Insert the jobs whose ids are absent. Numbers are assigned here, so only refused rows are read one by one."""
    last, at = find.last_number(connection), now()
    stored, first = numbered(jobs, last), last + 1
    connection.executemany(SQL["insert_job"], [_row(job, at) for job in stored])
    count = connection.execute(SQL["count_from"], (first,)).get
    if count == len(stored):
        _insert_specs(connection, stored)
        told.write(connection, _numbered(events, stored), at)
        return [Added("added", job) for job in stored]
    numbers = {number for (number,) in connection.execute(SQL["numbers_from"], (first,))}
    _insert_specs(connection, [job for job in stored if job.number in numbers])
    told.write(connection, [each for each in _numbered(events, stored) if each.number in numbers], at)
    return [Added("added", job) if job.number in numbers else _why_not(connection, job) for job in stored]


def save(
    connection: apsw.Connection,
    jobs: Sequence[Job],
    now: Callable[[], datetime],
    events: Sequence[Event | None] = (),
) -> list[SaveResult]:
    """Compare-and-swap on the version, job by job."""
    at = now()
    results = [_save(connection, job, at) for job in jobs]
    if events:
        accepted = [each for each, result in zip(events, results, strict=True) if type(result) is int]
        told.write(connection, [each for each in accepted if each is not None], at)
    return results


def _numbered(events: Sequence[Event | None], jobs: Sequence[Job]) -> list[Event]:
    """The events of new jobs, with the jobs' numbers."""
    if not events:
        return []
    pairs = zip(events, jobs, strict=True)
    return [replace(event, number=job.number) for event, job in pairs if event is not None]


def _row(job: Job, now: datetime) -> tuple[Any, ...]:
    spec, created = job.spec, codec.micros(job.created_at)
    fixed = (job.number, job.id, created, spec.unique_key, spec.batch, job.version, codec.due(job, now))
    return fixed + codec.changing(job)


def _insert_specs(connection: apsw.Connection, jobs: Sequence[Job]) -> None:
    connection.executemany(SQL["insert_spec"], [(job.number, codec.to_json(job.spec)) for job in jobs])


def _why_not(connection: apsw.Connection, job: Job) -> Added:
    known, damaged = rows.sift(connection, SQL["by_id"], [(job.id,)])
    if known:
        return verdict.known(job, known[0])
    holders = list[Job]()
    if not damaged:
        holders, damaged = rows.sift(connection, SQL["alive_by_key"], [(job.spec.unique_key,)])
    return Added("duplicate", holders[0]) if holders else verdict.unreadable(job, damaged[0])


def _save(connection: apsw.Connection, job: Job, now: datetime) -> SaveResult:
    try:
        connection.execute(
            SQL["update_job"], (codec.due(job, now), *codec.changing(job), job.id, job.version)
        )
    except apsw.ConstraintError as error:
        if not str(error).startswith("UNIQUE"):
            raise
        return "duplicate"
    return job.version + 1 if connection.changes() else "stale"
