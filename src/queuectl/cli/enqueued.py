"""Reports the jobs that were enqueued."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from queuectl.domain.ids import handle, is_made
from queuectl.domain.instant import format_instant
from queuectl.terminal import safe

if TYPE_CHECKING:
    from queuectl.cli.session import Session
    from queuectl.domain.job import Job
    from queuectl.service.enqueueing import Enqueued, JobSummary


def announce(session: "Session", added: "Sequence[Enqueued]", since: int | None = None) -> int:
    """Print the ids, report existing and refused jobs, return the exit code. `since`: the number of the first job."""
    code = 0
    jobs: list[Job | JobSummary] = []
    for item in added:
        if refused := item.refused:
            code = refused.exit_code
            session.err.write(f"queuectl: {refused.message} ({refused.hint})\n")
            continue
        jobs.append(item.stored)
        if item.existing:
            session.say(f"queuectl: {_was_there(item.stored)}")
    if jobs:
        session.did(_enqueued(jobs, since or jobs[0].number))
    if not session.json and jobs:
        session.out.write("\n".join(job.id for job in jobs) + "\n")
    if jobs and session.args.verbose and session.is_remote and since in (None, jobs[0].number):
        _say_directory(session, jobs[0])
    return code


def _say_directory(session: "Session", first: "Job | JobSummary") -> None:
    """Report in which directory the first job runs: without --cwd the server decides, unless it is on this host."""
    job = session.queue.get([first.id]).get(first.id)
    if job is not None:
        where = safe(job.spec.cwd) if job.spec.cwd else "the directory of its worker"
        session.say(f"queuectl: job {handle(job)} runs in {where}; --cwd DIR names another directory")


def _was_there(job: "Job | JobSummary") -> str:
    """The sentence about an existing job. An ended job does not run again, so the sentence shows how to retry it."""
    name = handle(job)
    if job.finished_at is None:
        return f"job {name} already existed ({job.state}), unchanged"
    force = "--force " if job.state == "completed" else ""
    return (
        f"job {name} already existed and ended at {format_instant(job.finished_at)} ({job.state}): nothing will run "
        f"(again: queuectl retry {force}{name}; as a new job: --id {job.id}-$(date +%F))"
    )


def _enqueued(jobs: "list[Job | JobSummary]", first: int) -> str:
    job = jobs[-1]
    if first != job.number:
        return f"jobs {first} to {job.number} are enqueued"
    return f"job {handle(job)} is enqueued" + (f", its id is {job.id}" if is_made(job.id) else "")
