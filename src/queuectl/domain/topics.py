"""Topics: the kinds of change that a waiting client subscribes to. A change of another topic does not wake it.

work     a job may be claimable, a worker was given an instruction, or the cancel of a running job was requested:
         workers wait for it
ends     a job ended, or a worker left the registry: `wait` and `enqueue --wait` wait for it
output   a running command printed something: `logs -f` waits for it
changes  a job was changed, added or deleted: for a stream of events. The renewal of a lease is not a change

`topics` is the rule for all stores. PostgreSQL and Redis repeat it in their statements, because there the statement
that changes a job also notifies, in one atomic step. `tests/contract/test_topics.py` compares every store with this
rule. A store may notify of a topic that was not touched, because a subscriber then only reads once more; it never
leaves out a topic that was touched.
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
_ENDED, _CLAIMABLE = ENDS | CHANGES, WORK | CHANGES


def topics(job: Job, now: datetime) -> Topics:
    """The topics that are touched when this job is stored: by `add`, or by `save` after a change."""
    if job.ended:
        return _ENDED
    if is_due(job, now) or (job.lease is not None and job.cancel_requested is not None):
        return _CLAIMABLE
    return CHANGES


def of_jobs(jobs: Iterable[Job], now: datetime) -> Topics:
    """The topics that are touched when all of these jobs are stored."""
    return NONE.union(*{topics(job, now) for job in jobs})
