"""The documents of workers, of their slots, and of workers that do not answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from queuectl.domain.job import Job
from queuectl.domain.worker import Slot, Worker
from queuectl.service.registry import Silence
from queuectl.service.shapes.jobs import JOB, PROGRESS, job_of
from queuectl.service.shapes.record import Form, Record, document, instant
from queuectl.service.worker_status import SlotStatus, WorkerStatus

SLOT = Record(SlotStatus, "slot job since number command stopped progress", progress=PROGRESS.one)
_REPORTED = Record(Worker, "state slots", slots=Record(Slot, "slot job since stopped").many)
"""The state that the worker sent with its last heartbeat. The claims in the store are newer."""
WORKER = Record[WorkerStatus](
    {"": WorkerStatus, "worker": Worker},
    "id name host holder_pid agent_pid version queues started_at last_heartbeat state note skew clock_jump slots "
    "claimed_ahead count boot_id directory claimed_at reported",
    {"last_heartbeat": "heartbeat", "claimed_ahead": "ahead", "reported": "worker"},
    slots=SLOT.many,
    claimed_at=Form(lambda times: {queue: instant(at) for queue, at in times.items()}),
    reported=Form(_REPORTED.encode, _REPORTED.fields),
)

worker, worker_of = WORKER.encode, WORKER.decode


def all_workers(found: Sequence[WorkerStatus]) -> dict[str, Any]:
    """The registry."""
    return document(workers=WORKER.many.encode(found))


def forgotten(removed: Sequence[tuple[Silence, Sequence[Job]]], *, complete: bool = False) -> dict[str, Any]:
    """The workers that were removed, and the jobs taken back; `complete` with their claims and these jobs."""
    recovered = [job for _, jobs in removed for job in jobs]
    found = document(
        forgotten=[silent.item.worker.id for silent, _ in removed], taken_back=[job.id for job in recovered]
    )
    claims = [silence(silent, complete=True) for silent, _ in removed]
    return {**found, "claims": claims, "jobs": JOB.many.encode(recovered)} if complete else found


def silence(silent: Silence, *, complete: bool = False) -> dict[str, Any]:
    """A worker that does not answer, with the jobs that it may still run; `complete` with what `silence_of` needs."""
    worker = silent.item.worker
    shown = {
        "id": worker.id,
        "name": worker.name,
        "host": worker.host,
        "last_heartbeat": instant(worker.heartbeat),
        "jobs": [job.id for job in silent.jobs],
        "taken_back_at": instant(silent.taken_back_at),
    }
    whole = {"worker": WORKER.encode(silent.item), "claims": JOB.many.encode(silent.jobs)}
    return {**shown, **whole} if complete else shown


def silence_of(shown: Mapping[str, Any]) -> Silence:
    """The worker that does not answer, from its complete document."""
    return Silence(WORKER.decode(shown["worker"]), [job_of(each) for each in shown["claims"]])
