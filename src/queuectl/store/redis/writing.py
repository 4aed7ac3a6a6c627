"""Adding and changing jobs: each batch is one script, or one for each thousand."""

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from queuectl.domain.job import Job
from queuectl.store import verdict
from queuectl.store.protocol import Added, Saved
from queuectl.store.redis import rows
from queuectl.store.redis.connections import Line

Swapped = Saved | Literal["absent"]
"""absent: there is no such job here; it may be in the archive."""
AT_ONCE = 1000
"""Jobs in one script: it holds up everybody else meanwhile."""


def add(line: Line, jobs: Sequence[Job], now: str) -> list[Added | None]:
    """Insert what is absent; None for a job whose id is in the archive."""
    answers = list[Added | None]()
    for start in range(0, len(jobs), AT_ONCE):
        batch = jobs[start : start + AT_ONCE]
        said = line.run("add", now, *[rows.new(job) for job in batch])
        answers += [_added(job, *answer) for job, answer in zip(batch, said, strict=True)]
    return answers


def _added(job: Job, what: bytes, answer: object = None) -> Added | None:
    if what == b"past":
        return None
    if what == b"added":
        return Added("added", replace(job, number=int(answer)))  # type: ignore[call-overload]
    other = rows.job(answer)  # type: ignore[arg-type]
    if what == b"taken":
        return Added("duplicate", other)
    return verdict.known(job, other)


def save(line: Line, jobs: Sequence[Job], now: str) -> list[Swapped]:
    """Compare-and-swap on the version."""
    answers = list[Swapped]()
    for start in range(0, len(jobs), AT_ONCE):
        batch = jobs[start : start + AT_ONCE]
        answers += [said.decode() for said in line.run("save", now, *[rows.changed(job) for job in batch])]
    return answers
