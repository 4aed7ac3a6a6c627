"""The numbers of new jobs: rising, and kept where a job brings one that is higher than all assigned ones."""

from collections.abc import Sequence

from msgspec.structs import replace

from queuectl.domain.job import Job

HIGHEST = 10**15
"""The highest number that a job may bring. Every store counts on from it without losing a digit."""


def brought(job: Job) -> int:
    """The number that a job brings, or 0 if it brings none that can be kept."""
    return job.number if 0 < job.number <= HIGHEST else 0


def numbered(jobs: Sequence[Job], last: int) -> list[Job]:
    """The jobs with their numbers, if `last` is the highest number that was assigned before."""
    found = list[Job]()
    for job in jobs:
        last = max(last + 1, brought(job))
        found.append(replace(job, number=last))
    return found


def needed(jobs: Sequence[Job]) -> int:
    """The highest number after `numbered` if no number was assigned before: the number that a counter has to reach."""
    return numbered(jobs, 0)[-1].number if jobs else 0
