"""Claim jobs, renew leases, and find expired leases.

Within `BEGIN IMMEDIATE` no other connection writes, so a claim makes delayed jobs that are due ready, reads the first
ready jobs, lets the domain change them, and writes them back. Its cost depends on the number of jobs that are taken and
of queues with ready jobs, not on the number of jobs in the store.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import apsw
from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.event import between
from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.domain.queue import QueueSettings
from queuectl.store.driver import codec, paging
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.protocol import DUE_LOOKED_AT, AttemptRef, ClaimRequest
from queuectl.store.sqlite import events, rows
from queuectl.store.sqlite.sql import statements

SQL = statements("claim")
_JOBS = statements("jobs")
Now = Callable[[], datetime]
"""A function for the time. It is called in the transaction, because the writer may have waited for its lock."""
PROMOTED_AT_ONCE = 1000
"""Maximum number of delayed jobs that one claim makes ready. Later claims make the others ready."""


def nothing_to_claim(connection: apsw.Connection, request: ClaimRequest, now: Now) -> bool:
    """Whether a claim would find nothing.

    A reading connection checks this, so that idle polling takes no write lock.
    """
    if connection.execute(SQL["anything_delayed_due"], (codec.micros(now()),)).get:
        return False
    return not _first(connection, replace(request, limit=1))


def claim(
    connection: apsw.Connection, request: ClaimRequest, now: Now, ids: AttemptIds, aside: SetAside
) -> list[Job]:
    """Take the first due jobs, in order."""
    at = now()
    moment = codec.micros(at)
    if connection.execute(SQL["anything_delayed_due"], (moment,)).get:
        connection.execute(SQL["promote"], (moment, PROMOTED_AT_ONCE))
    jobs = _readable(connection, request, aside)
    taken = [
        lifecycle.claim(job, attempt_id=id, worker=request.worker, lease=request.lease, now=at)
        for job, id in zip(jobs, ids.take(len(jobs)), strict=True)
    ]
    connection.executemany(SQL["take"], [_taking(job, moment) for job in taken])
    if request.tell:
        found = map(between, jobs, taken)
        events.write(connection, [event for event in found if event is not None], at)
    return [replace(job, version=job.version + 1) for job in taken]


def _readable(connection: apsw.Connection, request: ClaimRequest, aside: SetAside) -> list[Job]:
    """The first jobs. Jobs that cannot be decoded are set aside and replaced by the next jobs."""
    met = aside.met
    while True:
        numbers = _first(connection, request)
        jobs, damaged = rows.sift(connection, _JOBS["by_number"], numbers)
        set_aside(connection, damaged, aside)
        if not damaged or aside.is_enough(met):
            return jobs


def set_aside(connection: apsw.Connection, damaged: Sequence[Unreadable], aside: SetAside) -> None:
    """Set these jobs aside."""
    if not damaged:
        return
    # Because an edit by hand may have broken the constraints.
    connection.pragma("ignore_check_constraints", 1)
    try:
        connection.executemany(SQL["set_aside"], [(each.number,) for each in damaged])
    finally:
        connection.pragma("ignore_check_constraints", 0)
    aside.add(damaged)


def renew(
    connection: apsw.Connection, worker: str, held: Sequence[AttemptRef], lease: timedelta, now: Now
) -> list[Job]:
    """Renew the leases of attempts that still have their leases. Returns the jobs."""
    at, ids = now(), codec.to_json([h.job_id for h in held])
    found = {job.id: job for job in rows.sift(connection, _JOBS["by_ids"], [(ids,)])[0]}
    ours = [h for h in held if h.job_id in found and _is_held(found[h.job_id], worker, h)]
    fresh = [lifecycle.renew(found[h.job_id], lease=lease, now=at, progress=h.progress) for h in ours]
    moment, until = codec.micros(at), codec.micros(at + lease)
    noted = [None if job.progress is None else codec.to_json(job.progress) for job in fresh]
    values = [(moment, until, text, job.number) for job, text in zip(fresh, noted, strict=True)]
    connection.executemany(SQL["extend"], values)
    return [replace(job, version=job.version + 1) for job in fresh]


def expired_leases(connection: apsw.Connection, limit: int, now: Now) -> tuple[list[Job], list[Unreadable]]:
    """The claims whose lease has expired. Claims that cannot be decoded are returned separately."""
    moment = codec.micros(now())
    return paging.first(lambda count: rows.sift(connection, SQL["lapsed"], [(moment, count)]), limit)


def due_since(connection: apsw.Connection, now: Now) -> dict[str, datetime]:
    """For each queue with due jobs, when its longest waiting job became due."""
    moment = codec.micros(now())
    found = dict(connection.execute(SQL["overdue"], (moment, PROMOTED_AT_ONCE)))
    for (queue,) in connection.execute(SQL["queues_ready"]).fetchall():
        since = connection.execute(SQL["ready_since"], (queue, DUE_LOOKED_AT)).get
        if since is not None:
            found[queue] = min(since, found.get(queue, since))
    return {queue: codec.moment(min(max(since, 0), moment)) for queue, since in found.items()}


def _first(connection: apsw.Connection, request: ClaimRequest) -> list[tuple[int]]:
    """The numbers of the first ready jobs of all queues that are neither paused nor full."""
    capacities = {
        queue: QueueSettings.of(codec.entry(value, 0).value).capacity(processing, request.limit)
        for queue, value, processing in connection.execute(SQL["queue_settings"])
    }
    queues = set(request.queues) or [queue for (queue,) in connection.execute(SQL["queues_ready"])]
    line: list[tuple[int, int]] = []
    for queue in queues:
        line.extend(connection.execute(SQL["ready"], (queue, capacities.get(queue, request.limit))))
    if len(queues) > 1:
        line.sort()
    return [(number,) for _, number in line[: request.limit]]


def _taking(job: Job, moment: int) -> tuple[object, ...]:
    assert job.lease is not None
    return (moment, job.attempts, *codec.lease(job.lease), job.number)


def _is_held(job: Job, worker: str, held: AttemptRef) -> bool:
    return (
        lifecycle.holds_lease(job, held.attempt_id) and job.lease is not None and job.lease.worker == worker
    )
