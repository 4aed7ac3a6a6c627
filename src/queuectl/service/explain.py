"""Why a job is in its state, and what has to happen next."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from queuectl.config import Settings
from queuectl.domain.dependency import broken
from queuectl.domain.instant import format_instant
from queuectl.domain.job import Job
from queuectl.domain.quantity import format_duration
from queuectl.domain.query import Filter, Page
from queuectl.service import queries
from queuectl.store.protocol import Store


class Explanation(Struct, frozen=True):
    """Sentences: why it is as it is, and what comes next or can be done."""

    job: Job
    why: list[str]
    next: list[str]


def explain(store: Store, settings: Settings, job: Job) -> Explanation:
    """Look at everything that a job's state depends on."""
    now = store.now()
    why, then = list(_why(store, job, now)), list(_next(store, settings, job, now))
    return Explanation(job, why, then)


def _why(store: Store, job: Job, now: datetime) -> Iterator[str]:
    if job.state == "pending":
        if job.history:
            yield f"it is to run again; last: {job.last_error or 'retried by a person'}"
        elif job.run_at > now:
            yield f"it was enqueued to start not before {format_instant(job.run_at)}"
        else:
            yield "it is ready and no worker has taken it yet"
    elif job.state == "processing" and job.lease:
        until = format_instant(job.lease.until)
        yield f"worker {job.lease.worker} runs attempt {job.attempts}; its lease lasts until {until}"
        if job.cancel_requested:
            yield f"{job.cancel_requested.by} asked to cancel it at {format_instant(job.cancel_requested.at)}"
    elif job.state == "failed":
        yield f"attempt {job.attempts} failed: {job.last_error}"
    elif job.state == "blocked":
        yield from _blocked(store, job)
    elif job.state == "completed":
        yield f"attempt {job.attempts} ended with exit code 0"
    elif job.state == "held":
        why = f": {job.last_error}" if job.last_error and not job.history else ""
        yield f"it is held{why or ' until a person releases it'}"
    elif job.state == "dead":
        yield f"its last attempt failed for good: {job.last_error}"
    else:
        yield str(job.last_error or job.state)


def _next(store: Store, settings: Settings, job: Job, now: datetime) -> Iterator[str]:
    if job.state in ("pending", "failed"):
        yield from _before_start(store, settings, job, now)
    elif job.state == "processing":
        limit = f", or after {format_duration(job.spec.timeout)}" if job.spec.timeout else ""
        if job.cancel_requested:
            yield "its worker ends it, tree and all"
        else:
            yield f"it ends by itself{limit}; to end it: queuectl cancel {job.id}"
    elif job.state == "blocked":
        yield "it starts when these have ended as wanted"
    elif job.state == "held":
        yield f"queuectl release {job.id}"
    elif job.state == "completed":
        yield f"nothing; to run it again: queuectl retry --force {job.id}"
    else:
        yield f"nothing by itself; to run it again: queuectl retry {job.id}"


def _before_start(store: Store, settings: Settings, job: Job, now: datetime) -> Iterator[str]:
    if job.run_at > now:
        left = format_duration(job.run_at - now)
        used = f" (retry {job.failures} of {_limit(job)})" if job.state == "failed" else ""
        yield f"it is due at {format_instant(job.run_at)}, in {left}{used}"
    queue = next((queue for queue in queries.queues(store) if queue.name == job.queue), None)
    if queue and queue.paused:
        yield f"queue {job.queue} is paused: queuectl queue resume {job.queue}"
    if queue and queue.limit is not None and queue.jobs.get("processing", 0) >= queue.limit:
        yield f"queue {job.queue} runs {queue.limit} at once, its limit"
    yield from _workers(store, settings, job)
    if job.run_at <= now:
        yield from _line(store, job, now)


def _workers(store: Store, settings: Settings, job: Job) -> Iterator[str]:
    serving = [
        item
        for item in queries.workers(store, settings)
        if item.state == "running" and (not item.worker.queues or job.queue in item.worker.queues)
    ]
    if not serving:
        yield f"no running worker serves queue {job.queue}: queuectl worker start"
        return
    slots = sum(item.worker.count for item in serving)
    busy = sum(1 for item in serving for slot in item.worker.slots if slot.job)
    if busy >= slots:
        yield f"all {slots} slots that serve queue {job.queue} are busy"


def _line(store: Store, job: Job, now: datetime) -> Iterator[str]:
    """How many stand before it, counted as far as a person would. What is not due yet stands in nobody's way."""
    first = store.find(
        Filter(queue=job.queue, states=frozenset(("pending", "failed"))), Page(limit=1000, sort="next")
    )
    ids = [other.id for other in first.jobs if other.run_at <= now]
    if job.id in ids:
        before = ids.index(job.id)
        place = (
            f"{before} {'jobs stand' if before > 1 else 'job stands'} before it in"
            if before
            else "it is the next of"
        )
        yield f"{place} queue {job.queue}"
    else:
        yield f"more than {len(ids)} jobs stand before it in queue {job.queue}"


def _blocked(store: Store, job: Job) -> Iterator[str]:
    parents = store.get([parent.job for parent in job.spec.after])
    states = {id: parent.state for id, parent in parents.items()}
    vain = set(broken(job.spec.after, states))
    for parent in job.spec.after:
        if parent.job in job.waiting_for:
            state = states.get(parent.job, "gone")
            in_vain = " (in vain)" if parent.job in vain else ""
            yield f"it waits for {parent.job} to end {_WISHES[parent.on]}; that is {state}{in_vain}"


_WISHES = {"ok": "well", "any": "at all", "failed": "badly"}


def _limit(job: Job) -> str:
    return "any number" if job.spec.retry.max_retries < 0 else str(job.spec.retry.max_retries)
