"""Explains why a job is in its state, what has to happen next, and which commands help.

A hint is a command at the end of a sentence, after a colon, so that a person can paste it.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from shlex import quote

from msgspec import Struct
from msgspec.structs import replace

from queuectl.config import Settings
from queuectl.domain import dependency
from queuectl.domain.ids import handle
from queuectl.domain.instant import format_age, format_instant
from queuectl.domain.job import TERMINAL, Job, State
from queuectl.domain.quantity import format_duration
from queuectl.domain.query import Filter, Page
from queuectl.domain.queue import paused_in_words
from queuectl.service import queue_status, registry, slots, worker_status
from queuectl.service.attention import serving, worker_in_words
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import Store

FAILED_SHOWN = 20
"""A hint names about this many failed ancestors of a job. They are added level by level, so it may be a few more."""
FIRST_OF_LINE = 1000
"""At most this many jobs are read to count the jobs that are claimed before a job."""


class Explanation(Struct, frozen=True):
    """Two lists of sentences: why the job is in its state, and what happens next or can be done."""

    id: str
    number: int
    state: State
    why: list[str]
    next: list[str]


def explain(store: Store, settings: Settings, job: Job) -> Explanation:
    """Explain the state of a job, with everything that it depends on."""
    case = _Case(store, settings, job)
    why, then = _STATES[job.state]
    return Explanation(job.id, job.number, job.state, [*why(case), *_schedule(job)], list(then(case)))


def _schedule(job: Job) -> Iterator[str]:
    if job.spec.schedule and job.spec.instant:
        yield f"schedule {job.spec.schedule} added it for {format_instant(job.spec.instant)}"


class _Case:
    """A job with its queue, workers and parents. Each of these is read from the store when a sentence needs it."""

    def __init__(self, store: Store, settings: Settings, job: Job) -> None:
        self.store, self.settings, self.job = store, settings, job
        self.now = store.now()
        self.name = handle(job)

    @cached_property
    def workers(self) -> list[WorkerStatus]:
        """The registered workers. The jobs in their slots are taken from the claims."""
        return slots.occupied(
            worker_status.workers(self.store, self.settings, self.now), slots.running(self.store)
        )

    @property
    def living(self) -> list[WorkerStatus]:
        """The workers that are not lost. They recover the claims of lost workers."""
        return [item for item in self.workers if item.state != "lost"]

    @cached_property
    def worker(self) -> WorkerStatus | None:
        """The worker that has claimed the job, if it is still in the registry."""
        held = self.job.lease.worker if self.job.lease else None
        return next((item for item in self.workers if item.worker.id == held), None)

    @cached_property
    def parents(self) -> dict[str, Job]:
        """The parents of the job that still exist."""
        return self.store.get([parent.job for parent in self.job.spec.after])

    @property
    def parent_states(self) -> dict[str, State]:
        """The states of the parents that exist."""
        return {id: parent.state for id, parent in self.parents.items()}

    def called(self, parent: str) -> str:
        """The short name of a parent, for a sentence."""
        return handle(self.parents[parent]) if parent in self.parents else parent

    @property
    def queue(self) -> str:
        """The name of the job's queue, quoted for a shell."""
        return quote(self.job.queue)


# pending and failed


def _why_pending(case: _Case) -> Iterator[str]:
    job = case.job
    if job.history:
        yield f"it will run again; last: {job.last_error or 'retried by a person'}"
    elif job.run_at > case.now:
        yield f"it was enqueued to start not before {format_instant(job.run_at)}"
    else:
        yield "it is ready and no worker has claimed it yet"


def _why_failed(case: _Case) -> Iterator[str]:
    yield f"attempt {case.job.attempts} failed: {case.job.last_error}"


def _before_start(case: _Case) -> Iterator[str]:
    """All conditions that must hold before a worker claims the job."""
    job = case.job
    if job.run_at > case.now:
        left = format_duration(job.run_at - case.now)
        used = f" (retry {job.failures} of {_limit(job)})" if job.state == "failed" else ""
        yield f"it is due at {format_instant(job.run_at)}, in {left}{used}"
        if job.state == "failed":
            yield f"to run it at once: queuectl retry {case.name}"
    queue = next((queue for queue in queue_status.queues(case.store) if queue.name == job.queue), None)
    if queue and queue.paused:
        yield f"{paused_in_words(job.queue, queue.reason)}: queuectl queue resume {case.queue}"
    if queue and queue.limit is not None and queue.jobs.get("processing", 0) >= queue.limit:
        yield f"queue {job.queue} runs {queue.limit} at once, its limit: queuectl queue limit {case.queue} none"
    yield from _who_takes_it(case)
    if job.run_at <= case.now:
        yield from _line(case)


def _who_takes_it(case: _Case) -> Iterator[str]:
    queue = case.job.queue
    able = serving(case.workers, queue)
    if able:
        yield from _busy(case, able)
        return
    meant = [item for item in case.workers if not item.worker.queues or queue in item.worker.queues]
    for item in meant:
        yield f"{worker_in_words(item)} {_unable(item, case.now)}"
    others = bool([item for item in case.living if item not in meant])
    start = f"queuectl worker start --queue {case.queue}" if others else "queuectl worker start"
    yield f"no live worker serves queue {queue}: {start}"


def _unable(item: WorkerStatus, now: datetime) -> str:
    if item.state == "draining":
        return "is draining and claims nothing more"
    return f"is lost{_heard(item, now)}"


def _busy(case: _Case, able: list[WorkerStatus]) -> Iterator[str]:
    queue, resting = case.job.queue, [item for item in able if item.state == "paused"]
    for item in resting:
        yield f"{worker_in_words(item)} pauses and continues by itself; {item.worker.note or 'it reports no reason'}"
    slots = sum(item.worker.count for item in able)
    busy = sum(1 for item in able for slot in item.slots if slot.job)
    if busy >= slots:
        yield (
            f"all {slots} slots that serve queue {queue} are busy"
            if slots > 1
            else (f"the only slot that serves queue {queue} is busy")
        )


def _line(case: _Case) -> Iterator[str]:
    """A sentence about the number of due jobs that are claimed before this job. The count has a limit."""
    job, waiting = case.job, frozenset[State](("pending", "failed"))
    first = case.store.find(
        Filter(queue=job.queue, states=waiting), Page(limit=FIRST_OF_LINE, sort="next")
    ).jobs
    ids = [other.id for other in first if other.run_at <= case.now]
    if job.id not in ids:
        yield f"more than {len(ids)} jobs come before it in queue {job.queue}"
    elif before := ids.index(job.id):
        yield f"{before} {'jobs come' if before > 1 else 'job comes'} before it in queue {job.queue}"
    else:
        yield f"it is the next in queue {job.queue}"


# processing


def _why_processing(case: _Case) -> Iterator[str]:
    job, item, lease = case.job, case.worker, case.job.lease
    if lease is None:
        return
    who = worker_in_words(item) if item else f"a worker that has left the registry ({lease.worker})"
    if item and item.state != "lost":
        slot = f" in slot {lease.slot}, pid {lease.pid}" if lease.pid else ""
        yield f"{who} runs attempt {job.attempts}{slot}; its lease {_lease_words(case)}"
    else:
        silent = f" and is lost{_heard(item, case.now)}" if item else ""
        yield f"{who} claimed it for attempt {job.attempts}{silent}; its lease {_lease_words(case)}"
    if item and item.state == "draining":
        yield "that worker exits when its jobs have ended"
    if job.cancel_requested:
        yield f"{job.cancel_requested.by} asked to cancel it at {format_instant(job.cancel_requested.at)}"


def _lease_words(case: _Case) -> str:
    assert case.job.lease is not None
    until = case.job.lease.until
    if until > case.now:
        return f"lasts until {format_instant(until)}"
    return f"ended at {format_instant(until)}, {format_age(case.now - until)} ago"


def _heard(item: WorkerStatus, now: datetime) -> str:
    heard = item.worker.heartbeat
    return f" (last heartbeat {format_age(now - heard)} ago)" if heard else " (no heartbeat)"


def _going_on(case: _Case, item: WorkerStatus, limit: str) -> Iterator[str]:
    """The sentence that a running command ends by itself, or that a person has stopped it (SIGSTOP)."""
    lease = case.job.lease
    if lease and any(slot.stopped for slot in item.slots if slot.job == case.job.id):
        limited = f", but{limit.removeprefix(', or')}" if limit else ""
        way = f"; on host {item.worker.host}: kill -s CONT -- -{lease.pid}" if lease.pid else ""
        yield f"it is stopped (SIGSTOP) and does not end by itself{limited}{way}"
    else:
        yield f"it ends by itself{limit}"


def _next_processing(case: _Case) -> Iterator[str]:
    job, item = case.job, case.worker
    lease_is_over = job.lease is not None and job.lease.until <= case.now
    if item and item.state != "lost" and not lease_is_over:
        limit = f", or after {format_duration(job.spec.timeout)}" if job.spec.timeout else ""
        if job.cancel_requested:
            yield "its worker ends it, with all its processes"
        else:
            yield from _going_on(case, item, limit)
            yield f"to end it: queuectl cancel {case.name}"
        return
    if not lease_is_over and job.lease:
        left = format_duration(job.lease.until - case.now)
        yield f"if its worker reaches the store again within {left}, it continues there"
    when = "" if lease_is_over else "after that "
    if case.living:
        yield f"{when}a live worker takes it back within seconds, and {_once_back(job)}"
    else:
        yield f"{when}a live worker takes it back, and {_once_back(job)}"
        yield "no worker lives: queuectl worker start"
    if item and item.state == "lost":
        name = quote(registry.address(item, case.workers))
        yield f"if host {item.worker.host} no longer exists: queuectl worker forget {name}"


def _once_back(job: Job) -> str:
    most = job.spec.retry.max_losses
    if job.cancel_requested:
        return "it is cancelled"
    if job.losses >= most:
        return f"it is dead, because it may be lost {most} times at most"
    return "it runs again"


# blocked and held


def _why_blocked(case: _Case) -> Iterator[str]:
    job, states = case.job, case.parent_states
    vain = set(dependency.impossible(job, states))
    for parent in job.spec.after:
        if parent.job in job.waiting_for:
            state = states.get(parent.job, "gone")
            in_vain = " (no longer possible)" if parent.job in vain else ""
            yield f"it waits for {case.called(parent.job)} to end {_ENDINGS[parent.on]}; that is {state}{in_vain}"


def _next_blocked(case: _Case) -> Iterator[str]:
    job, states = case.job, case.parent_states
    if vain := dependency.impossible(job, states):
        what = "held" if job.spec.after_failure == "hold" else "cancelled"
        if case.living:
            yield f"it is {what} within seconds"
        else:
            yield f"it becomes {what} once a worker lives: queuectl worker start"
        yield from _mend(case, vain)
        return
    yield "it starts when these have ended as wanted"
    for parent in job.waiting_for:
        state = states.get(parent)
        if state == "held":
            yield f"{case.called(parent)} is held: queuectl release {quote(case.called(parent))}"
        elif state is not None and state not in TERMINAL:
            yield f"when {case.called(parent)} ends: queuectl explain {quote(case.called(parent))}"


def _mend(case: _Case, vain: tuple[str, ...]) -> Iterator[str]:
    """What a person can do if parents did not end as wanted: retry them, and their own parents that failed.

    A job that was cancelled because of them is revived by that; other jobs are retried in the same command.
    """
    job = case.job
    failed = [handle(above) for above in _failed_above(case, vain)]
    if failed:
        comes_back = not job.ended or (job.state == "cancelled" and job.cause == "parent")
        names = failed if comes_back else [*failed, case.name]
        force = "--force " if job.state == "completed" else ""
        words = " ".join(map(quote, names))
        yield f"to run {', '.join(failed)} again, and then this one: queuectl retry {force}{words}"


def _failed_above(case: _Case, vain: Sequence[str]) -> list[Job]:
    """The parents that can no longer end as wanted, and their ancestors of this kind, the topmost first."""
    found: dict[str, Job] = {}
    known = case.parents
    while vain and len(found) < FAILED_SHOWN:
        level = [known[id] for id in vain if id in known and known[id].state in ("dead", "cancelled")]
        found |= {job.id: job for job in level}
        known = case.store.get([parent.job for job in level for parent in job.spec.after])
        states = {id: job.state for id, job in known.items()}
        again = [replace(job, waiting_for=dependency.unmet_after_retry(job, states)) for job in level]
        vain = [id for job in again for id in dependency.impossible(job, states) if id not in found]
    return dependency.parents_first(list(found.values()))


def _why_held(case: _Case) -> Iterator[str]:
    job = case.job
    if job.cause in ("parent", "skipped"):
        yield f"it is held: {job.last_error}"
    elif job.is_arriving:
        yield "an import has not finished it"
    else:
        yield "it is held until a person releases it"


def _next_held(case: _Case) -> Iterator[str]:
    if case.job.is_arriving:
        yield "the same import, run again, finishes it"
        yield f"to give it up: queuectl cancel {case.name}"
        return
    vain = dependency.impossible(case.job, case.parent_states)
    if not vain:
        yield f"to let it start: queuectl release {case.name}"
        for parent in dependency.unmet(case.job, case.parent_states):
            yield f"it then waits for {case.called(parent)}, which is {case.parent_states[parent]}"
        return
    yield from _mend(case, vain)
    yield f"to run it without its parents: queuectl release --anyway {case.name}"


# what has ended


def _why_completed(case: _Case) -> Iterator[str]:
    yield f"attempt {case.job.attempts} ended with exit code 0"


def _why_dead(case: _Case) -> Iterator[str]:
    yield f"its last attempt failed for good: {case.job.last_error}"


def _why_cancelled(case: _Case) -> Iterator[str]:
    yield str(case.job.last_error or "cancelled")


def _next_ended(case: _Case) -> Iterator[str]:
    """The sentences about running an ended job again: whether its unique key and its parents allow it, and how."""
    job, force = case.job, "--force " if case.job.state == "completed" else ""
    yield "nothing by itself"
    if job.attempts and job.state == "dead":
        yield f"to see its output: queuectl logs {case.name}"
    if holder := _holder_of_key(case):
        yield f"its unique key {job.spec.unique_key!r} is job {holder}'s: it can run again once that has ended"
        return
    waiting = dependency.unmet_after_retry(job, case.parent_states)
    again = [p for p in waiting if case.parent_states.get(p) in (None, *TERMINAL)]
    yield from _mend(case, tuple(again))
    if not again:
        yield f"to run it again: queuectl retry {force}{case.name}"
    else:
        yield f"to run it without its parents: queuectl retry --alone {force}{case.name}"


def _holder_of_key(case: _Case) -> str | None:
    """The job that now has this job's unique key."""
    key = case.job.spec.unique_key
    if key is None:
        return None
    living = frozenset[State](("pending", "failed", "processing", "blocked", "held"))
    found = case.store.find(Filter(unique_key=key, states=living), Page(limit=1)).jobs
    return handle(found[0]) if found else None


_ENDINGS = {"ok": "well", "any": "at all", "failed": "badly"}

_Sentences = Callable[[_Case], Iterator[str]]
_STATES: dict[State, tuple[_Sentences, _Sentences]] = {
    "pending": (_why_pending, _before_start),
    "failed": (_why_failed, _before_start),
    "processing": (_why_processing, _next_processing),
    "blocked": (_why_blocked, _next_blocked),
    "held": (_why_held, _next_held),
    "completed": (_why_completed, _next_ended),
    "dead": (_why_dead, _next_ended),
    "cancelled": (_why_cancelled, _next_ended),
}


def _limit(job: Job) -> str:
    return "any number" if job.spec.retry.max_retries < 0 else str(job.spec.retry.max_retries)
