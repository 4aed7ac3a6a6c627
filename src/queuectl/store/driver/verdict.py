"""What is answered about a job that was to be added or saved: the same rule for every driver (guarantee G2)."""

from typing import Literal

from msgspec.structs import replace

from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.store.protocol import Added, Saved

SaveResult = int | Literal["stale", "duplicate"]
"""What a driver answers about one job of a `save`: the new version of a job that is stored, or why it is not."""


def known(job: Job, other: Job) -> Added:
    """`job` was to be added, and `other` has its id: the same request, or another one."""
    return Added("existing" if other.spec.content == job.spec.content else "conflict", other)


def unreadable(job: Job, other: Unreadable) -> Added:
    """`job` was to be added, and what has its id, or holds its key, cannot be decoded: the answer can only name it."""
    named = replace(job, id=other.id, number=other.number, state="held")
    return Added("conflict" if other.id == job.id else "duplicate", named)


def saved(job: Job, result: SaveResult) -> Saved:
    """`job` was to be saved."""
    return Saved("accepted", replace(job, version=result)) if isinstance(result, int) else Saved(result)
