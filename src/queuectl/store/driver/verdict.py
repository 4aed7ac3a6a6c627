"""Decides the result for a job that was added or saved, with one rule for all drivers (guarantee G2)."""

from typing import Literal

from msgspec.structs import replace

from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.store.protocol import Added, Saved

SaveResult = int | Literal["stale", "duplicate"]
"""The result of a driver's `save` for one job: the new version of the stored job, or the reason of the refusal."""


def known(job: Job, other: Job) -> Added:
    """The result of adding `job` if `other` has its id: both are from the same request, or not."""
    return Added("existing" if other.spec.content == job.spec.content else "conflict", other)


def unreadable(job: Job, other: Unreadable) -> Added:
    """The result of adding `job` if the job with its id or key cannot be decoded, so that only its name is known."""
    named = replace(job, id=other.id, number=other.number, state="held")
    return Added("conflict" if other.id == job.id else "duplicate", named)


def saved(job: Job, result: SaveResult) -> Saved:
    """The result of saving `job`."""
    return Saved("accepted", replace(job, version=result)) if isinstance(result, int) else Saved(result)
