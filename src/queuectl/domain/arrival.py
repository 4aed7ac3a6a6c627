"""The arrival of an imported job: it is added as a held job, gets its output, and then its own state.

Until that last step no worker starts the job, and no retention deletes it. If an import dies in between, the job stays
held with the cause `moved`, by which the same import recognises it and continues.
"""

from msgspec.structs import replace

from queuectl.domain.job import Job


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


def is_arriving(job: Job) -> bool:
    """Whether the job is being imported."""
    return job.state == "held" and job.cause == "moved"
