"""The documents of a job, of its parts, and of the answers to an enqueue."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from queuectl.domain.instant import parse_instant
from queuectl.domain.job import Attempt, CancelRequest, Job, Lease, Parent, Progress, Spec
from queuectl.domain.query import Unreadable
from queuectl.domain.retry import RetryPolicy
from queuectl.errors import Conflict
from queuectl.service.enqueueing import Enqueued, JobSummary
from queuectl.service.shapes import faults
from queuectl.service.shapes.record import OCTAL, Form, Record, document, instant

if TYPE_CHECKING:
    from queuectl.service.changing import Change
    from queuectl.service.matching import Preview

PARENT = Record(Parent, "job on")
CANCEL_REQUEST = Record(CancelRequest, "by at reason cause")
LEASE = Record(Lease, "attempt_id worker slot pid claimed_at started_at until")
ATTEMPT = Record(
    Attempt,
    "attempt attempt_id worker host pid claimed_at started_at finished_at outcome exit_code signal error user_cpu "
    "system_cpu max_rss output_bytes ended_processes",
)
PROGRESS = Record(Progress, "percent message at attempt_id")
UNREADABLE = Record(Unreadable, "id number reason")
_BACKOFF = Record(RetryPolicy, "base factor max jitter", {"max": "longest"})
JOB = Record[Job](
    {"": Job, "spec": Spec, "spec.retry": RetryPolicy},
    "id number command argv shell queue priority state cause run_at attempts failures losses version max_retries "
    "max_losses backoff no_retry_codes timeout kill_grace cwd env umask stdin output_limit split allow_detached "
    "unique_key after after_failure waiting_for batch tags meta lease cancel_requested history history_dropped "
    "last_error exit_code output_tail created_at updated_at started_at finished_at sort_key boost content "
    "schedule instant label progress",
    {"backoff": "retry"},
    backoff=Form(_BACKOFF.encode, _BACKOFF.fields),
    umask=OCTAL,
    after=PARENT.many,
    lease=LEASE.one,
    cancel_requested=CANCEL_REQUEST.one,
    history=ATTEMPT.many,
    progress=PROGRESS.one,
)

job = JOB.encode
attempt, attempt_of = ATTEMPT.encode, ATTEMPT.decode
unreadable, unreadable_of = UNREADABLE.encode, UNREADABLE.decode


def job_of(shown: Mapping[str, Any]) -> Job:
    """A job, from its object. What the reader was not allowed to see has its default."""
    hidden = shown.get("redacted", ())
    return JOB.decode(
        {name: value for name, value in shown.items() if name not in hidden} if hidden else shown
    )


def enqueued(item: Enqueued, *, whole: bool = False) -> dict[str, Any]:
    """One job of the answer to an enqueue; with `whole`, the whole job is a part of it."""
    job = item.stored
    shown = {"id": job.id, "number": job.number, "state": job.state, "existing": item.existing}
    if job.finished_at is not None:
        shown["finished_at"] = instant(job.finished_at)
    return {**shown, **_whole(item)} if whole else shown


def refused(item: Enqueued, *, index: int, id: str | None, whole: bool = False) -> dict[str, Any]:
    """One request that was refused, by its position and its id; with `whole`, also the job that has the id or key."""
    assert item.refused
    shown = {"index": index, "id": id, "error": faults.body(item.refused)}
    return {**shown, **_whole(item)} if whole else shown


def all_enqueued(
    jobs: Sequence[Mapping[str, Any]], refused: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The answer to an enqueue, from the documents of its jobs and of its refused requests."""
    return document(jobs=jobs, **({"refused": refused} if refused else {}))


def shown(job: Job) -> dict[str, Any]:
    """One job as a document."""
    return document(job=JOB.encode(job))


def listed(
    jobs: Sequence[Mapping[str, Any]],
    cursor: str | None,
    unreadable: Iterable[Unreadable],
    looked_at: int | None = None,
) -> dict[str, Any]:
    """One page of a list, from the objects of its jobs."""
    shown = document(jobs=jobs, next=cursor, unreadable=[UNREADABLE.encode(each) for each in unreadable])
    return shown if looked_at is None else {**shown, "looked_at": looked_at}


def line_of_unreadable(each: Unreadable) -> dict[str, Any]:
    """A job that cannot be decoded as one line of a list of jobs."""
    return {**UNREADABLE.encode(each), "state": "unreadable"}


def changed(own: "Change", revived: Sequence["Change"] = ()) -> dict[str, Any]:
    """The job after a command, and the jobs that wait for it again."""
    assert own.job
    found = document(job=job(own.job), changed=own.changed)
    return {**found, "revived": [job(each.job) for each in revived if each.job]} if revived else found


def preview(found: "Preview") -> dict[str, Any]:
    """What an operation would change."""
    return document(dry_run=True, matched=found.matched, by_state=found.by_state, sample=found.sample)


def waited(item: Job) -> dict[str, Any]:
    """A job for which a client waits: how it ended, or nulls if it has not ended."""
    last = item.history[-1] if item.ended and item.history else None
    return {
        "id": item.id,
        "state": item.state,
        "outcome": last and last.outcome,
        "exit_code": last and last.exit_code,
        "signal": last and last.signal,
    }


def _whole(item: Enqueued) -> dict[str, Any]:
    return {"status": item.status, "job": job(item.whole)}


def enqueued_of(shown: Mapping[str, Any]) -> Enqueued:
    """The answer to one request, stored or refused. It has the whole job if the document has it."""
    fault = faults.fault_of(shown["error"]) if "error" in shown else None
    assert fault is None or isinstance(fault, Conflict)
    if "job" in shown:
        return Enqueued(job_of(shown["job"]), shown["status"], fault)
    if fault is not None:
        return Enqueued(None, "conflict", fault)
    ended_at = shown.get("finished_at")
    summary = JobSummary(
        shown["id"], shown["number"], shown["state"], None if ended_at is None else parse_instant(ended_at)
    )
    return Enqueued(summary, "existing" if shown["existing"] else "added")
