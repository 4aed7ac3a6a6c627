"""Topics: of what a change of jobs is news. Whoever waits subscribes to topics and is not woken by other changes.

work     a job may be claimable, a worker was given an instruction, or a running job is to be cancelled: workers wait
         for it
ends     a job ended, or a worker left the registry: `wait` and `enqueue --wait` wait for it
output   a running command printed something: `logs -f` waits for it
changes  a job changed in any way, or was added or deleted: for a stream of events. Renewing a lease is no change

`topics` is the rule for all stores. PostgreSQL and Redis repeat it in their statements, because there the statement
that changes a job also notifies, in one atomic step. `tests/contract/test_topics.py` compares every store with this
rule. A store may notify of a topic that was not touched, but never leave one out: subscribers only look again.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from queuectl.domain.job import Job
from queuectl.domain.lifecycle import is_due

Topic = Literal["work", "ends", "output", "changes"]
Topics = frozenset[Topic]

ALL: Topics = frozenset(("work", "ends", "output", "changes"))
WORK: Topics = frozenset(("work",))
ENDS: Topics = frozenset(("ends",))
OUTPUT: Topics = frozenset(("output",))
CHANGES: Topics = frozenset(("changes",))
NONE: Topics = frozenset()


def topics(job: Job, now: datetime) -> Topics:
    """What is touched by storing this job: by `add`, and by `save` of a changed one."""
    if job.ended:
        return ENDS | CHANGES
    if is_due(job, now) or (job.lease is not None and job.cancel_requested is not None):
        return WORK | CHANGES
    return CHANGES


def of_jobs(jobs: Iterable[Job], now: datetime) -> Topics:
    """What is touched by storing all of these jobs."""
    return NONE.union(*(topics(job, now) for job in jobs))
