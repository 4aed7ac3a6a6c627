"""The arrival of an imported job: a job with output is added as a held job, gets its output, and then its own state.

Until that last step no worker starts the job, no person can release it, and no retention deletes it. If an import dies
in between, the job stays held with the cause `moved`, by which the same import recognises it and continues. A job
without output is added in its own state.
"""

from datetime import datetime

from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.outcome import Outcome, Report
from queuectl.errors import InvalidInput

RAN = "the job was exported while it ran"
"""Why the running attempt of an imported job is lost."""


def arriving(job: Job) -> Job:
    """The job as it is added: held, without an end, an attempt or a history."""
    return replace(
        job,
        state="held",
        cause="moved",
        version=1,
        lease=None,
        cancel_requested=None,
        history=(),
        history_dropped=0,
        started_at=None,
        finished_at=None,
    )


def imported(job: Job, exported_at: datetime) -> Job:
    """The job as it is after its import. A running job waits again, and its attempt is recorded as lost.

    Raises InvalidInput for a job that no store can have.
    """
    if (job.state == "processing") != (job.lease is not None) or (job.state in TERMINAL) != bool(
        job.finished_at
    ):
        raise InvalidInput(f"job {job.id}: its state and its times do not fit together")
    if job.lease is None:
        return job
    report = Report(
        outcome=Outcome(kind="lost"),
        finished_at=max(exported_at, job.lease.claimed_at),
        output_tail=job.output_tail,
    )
    return lifecycle.interrupt(job, report, now=exported_at, why=RAN)


def renumbered(job: Job) -> Job:
    """The job for a store that has given its number to another job, or has a higher one. `meta` keeps the number."""
    spec = replace(job.spec, meta={**job.spec.meta, "imported_number": job.number})
    return replace(job, number=0, spec=spec)


def without_key(job: Job) -> Job:
    """An ended job for a store in which a living job has its unique key. `meta` keeps the key."""
    meta = {**job.spec.meta, "imported_unique_key": job.spec.unique_key}
    return replace(job, spec=replace(job.spec, unique_key=None, meta=meta))
