"""What becomes of a job whose id is in the store already: the same rule for every driver (guarantee G2)."""

from queuectl.domain.job import Job
from queuectl.store.protocol import Added


def known(job: Job, other: Job) -> Added:
    """`job` was to be added, and `other` has its id: the same request, or another one."""
    return Added("existing" if other.spec.content == job.spec.content else "conflict", other)
