"""Deleting jobs that have ended, a bounded number at a time."""

from collections.abc import Sequence
from itertools import islice

from queuectl.domain.job import Job
from queuectl.domain.query import Filter, matches
from queuectl.store.redis import finding
from queuectl.store.redis.connections import Line


def purge(line: Line, wanted: Filter, limit: int) -> list[str]:
    """Longest ended first; whatever the filter says, only what has ended."""
    found = oldest(line, wanted, limit)
    gone = delete(line, found)
    return [job.id for job in found if job.number in gone]


def oldest(line: Line, wanted: Filter, limit: int) -> list[Job]:
    """Those that match and ended longest ago."""
    return list(islice((job for job in finding.ended(line) if matches(job, wanted)), limit))


def delete(line: Line, jobs: Sequence[Job]) -> set[int]:
    """Delete these if they have not changed since. Answers the numbers of those that are gone."""
    words = [word for job in jobs for word in (f"{job.number:016}", job.version)]
    return {int(number) for number in line.run("purge", *words)} if words else set()
