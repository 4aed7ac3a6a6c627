"""Deletes ended jobs, a bounded number at a time, and jobs that cannot be decoded."""

from collections.abc import Sequence
from itertools import islice

from queuectl.domain.event import Actor, deleted
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.store.redis import find, rows
from queuectl.store.redis.connect import Line
from queuectl.store.redis.write import AT_ONCE


def purge(line: Line, wanted: Filter, limit: int, now: str, tell: Actor | None = None) -> list[str]:
    """Delete ended jobs that match, longest ended first. Jobs that have not ended are never deleted."""
    found = oldest(line, wanted, limit)
    gone = delete(line, found, now, tell)
    return [job.id for job in found if job.number in gone]


def oldest(line: Line, wanted: Filter, limit: int) -> list[Job]:
    """The matching jobs that ended longest ago."""
    return list(islice(find.ended(line, wanted, limit), limit))


def discard(line: Line, numbers: Sequence[int], now: str) -> list[int]:
    """Delete the jobs with these numbers that cannot be decoded, in any state."""
    _, damaged = find.by_number(line, numbers)
    words = [f"{each.number:016}" for each in damaged]
    return [int(number) for number in line.run("discard", now, *words)] if words else []


def delete(line: Line, jobs: Sequence[Job], now: str, tell: Actor | None) -> set[int]:
    """Delete these jobs, except jobs that have changed since they were read.

    Returns the numbers of the deleted jobs.
    """
    gone = set[int]()
    for start in range(0, len(jobs), AT_ONCE):
        batch = jobs[start : start + AT_ONCE]
        words = [word for job in batch for word in (f"{job.number:016}", job.version, deletion(job, tell))]
        gone |= {int(number) for number in line.run("purge", now, *words)}
    return gone


def deletion(job: Job, tell: Actor | None) -> str:
    """The event of the deletion of a job by this actor, as a script gets it. Empty if it is not told."""
    return "" if tell is None else rows.line(deleted(job, tell))
