"""Brings jobs of a store into a state by the necessary events, and adds workers to the registry."""

from typing import Any

from msgspec.structs import replace

from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Parent, State
from queuectl.domain.outcome import Outcome, Report
from queuectl.domain.worker import Slot, Worker
from queuectl.store.memory import MemoryStore


def put(store: MemoryStore, id: str, *, state: State = "pending", **fields: Any) -> Job:
    """A job of this id, stored, in this state."""
    if state == "dead":
        fields["max_retries"] = 0
    job = new_job(id, now=store.now(), hold=state == "held", **fields)
    store.add([job])
    if state in ("processing", "completed", "failed", "dead"):
        take(store, id)
    if state in ("completed", "failed", "dead"):
        end(store, id, exit_code=0 if state == "completed" else 1)
    if state == "cancelled":
        change(store, lifecycle.cancel(get(store, id), by="test", reason=None, now=store.now()))
    assert get(store, id).state == state, get(store, id)
    return get(store, id)


def child(store: MemoryStore, id: str, *after: str | Parent, **fields: Any) -> Job:
    """A stored job that waits for others."""
    parents = tuple(Parent(item) if isinstance(item, str) else item for item in after)
    store.add([new_job(id, now=store.now(), after=parents, **fields)])
    return get(store, id)


def get(store: Any, id: str) -> Job:
    """A job as stored now."""
    job: Job = store.get([id])[id]
    return job


def take(store: MemoryStore, id: str, worker: str = "w1") -> Job:
    """Let a worker claim exactly this job although others are due."""
    job = get(store, id)
    now = store.now()
    taken = lifecycle.claim(
        replace(job, run_at=min(job.run_at, now)),
        attempt_id=f"{id}-{job.attempts + 1}",
        worker=worker,
        lease=LEASE,
        now=now,
    )
    return change(store, taken)


def end(store: MemoryStore, id: str, exit_code: int = 0) -> Job:
    """Let the running attempt of a job end."""
    told = report(exit_code=exit_code, now=store.now())
    return change(store, lifecycle.finish(get(store, id), told, now=store.now(), random_number=0.5))


def lose(store: MemoryStore, id: str) -> Job:
    """Let the running attempt of a job be lost."""
    told = Report(outcome=Outcome(kind="lost", error="gone"), finished_at=store.now())
    return change(store, lifecycle.lose(get(store, id), told, now=store.now()))


def change(store: MemoryStore, job: Job) -> Job:
    """Save a job; fails if another process saved it first."""
    assert statuses(store.save([job])) == ["accepted"]
    return get(store, job.id)


def heartbeat(
    store: MemoryStore, name: str = "w1", count: int = 1, busy: tuple[str, ...] = (), **fields: Any
) -> Worker:
    """A worker with a recent heartbeat and with these jobs in its slots."""
    slots = tuple(
        Slot(slot=n, job=busy[n], since=store.now()) if n < len(busy) else Slot(slot=n) for n in range(count)
    )
    given: dict[str, Any] = {
        "id": name, "name": name, "host": "h", "boot_id": "b", "holder_pid": 1, "agent_pid": 2, "version": "0",
        "count": count, "started_at": NOW, "slots": slots,
    }  # fmt: skip
    worker = Worker(**(given | fields))
    store.heartbeat(worker)
    return worker
