"""The problems that need a person: one entry for each problem that does not end by itself, or not soon.

`status` shows the entries; `doctor` counts the faults among them.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from queuectl.domain.ids import handle, is_made
from queuectl.domain.instant import format_age
from queuectl.domain.job import Job
from queuectl.domain.quantity import format_duration
from queuectl.domain.query import Unreadable
from queuectl.domain.queue import paused_in_words
from queuectl.service import registry
from queuectl.service.queue_status import QueueStatus
from queuectl.service.status import Attention, Status
from queuectl.service.unreadable import known, refusal
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import Store

if TYPE_CHECKING:
    from queuectl.service.settings import Unused

SKEW_TOLERATED = 2.0
"""Maximum difference in seconds between the clock of a worker's host and the store's clock."""
TAKEN_BACK_WITHIN = timedelta(seconds=10)
"""Live workers recover a claim with an expired lease within seconds. Only after this time a person has to act."""
UNREADABLE_NAMED = 5
"""Maximum number of unreadable jobs that are listed one by one."""
EXPIRED_SEEN = 100
"""Maximum number of jobs with an expired lease that are read."""
EXPIRED_NAMED = 5
"""Maximum number of jobs with an expired lease that are listed one by one."""


def attention(store: Store, found: Status, unused: "Unused | None" = None) -> list[Attention]:
    """Everything that needs a person, most urgent first. `unused`: variables that name a store and are not used."""
    return [
        *_queues(found),
        *_workers(found),
        *_expired_leases(store.expired_leases(EXPIRED_SEEN), found),
        *_stopped(found),
        *_unreadable(known(store)),
        *_schedules(store, found),
        *_hooks(store, found),
        *_clocks(found),
        *_variables(unused, found.url),
    ]


def serving(workers: Sequence[WorkerStatus], queue: str) -> list[WorkerStatus]:
    """The workers that claim from a queue: neither lost nor draining. A paused worker counts: it claims again soon."""
    return [
        item
        for item in workers
        if item.state in ("running", "paused") and (not item.worker.queues or queue in item.worker.queues)
    ]


def worker_in_words(item: WorkerStatus) -> str:
    """The name of a worker and its host, for a sentence."""
    return f"worker {item.worker.name} on {item.worker.host}"


def _queues(found: Status) -> Iterator[Attention]:
    for queue in found.queues:
        if queue.oldest_due is None:
            continue
        waiting = waiting_in_words(queue, found.now)
        if queue.paused:
            hint = f"queuectl queue resume {_word(queue.name)}"
            yield Attention(
                "paused_queue", f"{paused_in_words(queue.name, queue.reason)}, and {waiting}", hint
            )
        if not serving(found.workers, queue.name):
            text = f"no live worker serves queue {queue.name}, and {waiting}"
            yield Attention("no_worker", text, _start(queue, found.workers))


def waiting_in_words(queue: QueueStatus, now: datetime) -> str:
    """How many jobs wait, and how long the oldest of them has waited."""
    assert queue.oldest_due is not None
    count = queue.jobs.get("pending", 0) + queue.jobs.get("failed", 0)
    age = format_age(now - queue.oldest_due)
    return f"1 job has waited for {age}" if count == 1 else f"{count} jobs wait, one of them for {age}"


def _start(queue: QueueStatus, workers: Sequence[WorkerStatus]) -> str:
    """The command that starts a worker: for this queue if other workers live, otherwise for all queues."""
    living = any(item.state in ("running", "paused") for item in workers)
    return f"queuectl worker start --queue {_word(queue.name)}" if living else "queuectl worker start"


def _workers(found: Status) -> Iterator[Attention]:
    for item in found.workers:
        if item.state == "lost":
            hint = f"queuectl worker forget {_word(registry.address(item, found.workers))}"
            text = f"{_lost(item, found.now)}; if its host no longer exists, forget it"
            yield Attention("lost_worker", text, hint)
        elif item.state == "paused":
            yield Attention("paused_worker", f"{worker_in_words(item)} pauses: {item.worker.note}")


def _lost(item: WorkerStatus, now: datetime) -> str:
    heard = item.worker.heartbeat
    since = f"sent its last heartbeat {format_age(now - heard)} ago" if heard else "never sent a heartbeat"
    held = sum(1 for slot in item.slots if slot.job) + item.ahead
    jobs = f"; it still has {held} {'job' if held == 1 else 'jobs'}" if held else ""
    return f"{worker_in_words(item)} {since}{jobs}"


def _expired_leases(expired: Sequence[Job], found: Status) -> Iterator[Attention]:
    living = any(item.state != "lost" for item in found.workers)
    names = {item.worker.id: worker_in_words(item) for item in found.workers}
    late = [job for job in expired if not living or found.now - _until(job) > TAKEN_BACK_WITHIN]
    hint = None if living else "queuectl worker start"
    for job in late[:EXPIRED_NAMED]:
        worker = names.get(job.lease.worker if job.lease else "", "a worker that has left the registry")
        age = format_age(found.now - _until(job))
        text = f"job {handle(job)} was started by {worker}; its lease expired {age} ago and no worker has taken it back"
        yield Attention("lapsed_lease", text, hint)
    if len(late) > EXPIRED_NAMED:
        yield Attention("lapsed_lease", f"and {len(late) - EXPIRED_NAMED} more with an expired lease", hint)


def _unreadable(found: Sequence[Unreadable]) -> Iterator[Attention]:
    for each in found[:UNREADABLE_NAMED]:
        error = refusal(each)
        yield Attention("unreadable", error.message, f"queuectl delete {each.number}")
    if len(found) > UNREADABLE_NAMED:
        rest = len(found) - UNREADABLE_NAMED
        yield Attention("unreadable", f"and {rest} more jobs that cannot be read", "queuectl list --all")


def _schedules(store: Store, found: Status) -> list[Attention]:
    entries = store.read_table("schedules")
    if not entries:
        return []
    from queuectl.service.schedules.problems import (
        problems,
    )  # imported here, because most queues have no schedules

    return problems(entries, found.now)


def _hooks(store: Store, found: Status) -> list[Attention]:
    entries = store.read_table("hooks")
    if not entries:
        return []
    from queuectl.domain.hook import QUEUE
    from queuectl.service.hooks.problems import problems  # imported here, because most queues have no hooks

    return list(problems(entries, found, is_served=bool(serving(found.workers, QUEUE))))


def _until(job: Job) -> datetime:
    return job.lease.until if job.lease else job.updated_at


def _stopped(found: Status) -> Iterator[Attention]:
    for item in found.workers:
        for slot in item.slots:
            if slot.stopped and slot.job and item.state != "lost":
                name = str(slot.number) if slot.number and is_made(slot.job) else slot.job
                text = f"job {name} does not continue: a process of it on host {item.worker.host} is stopped (SIGSTOP)"
                yield Attention("stopped_command", text, f"queuectl explain {name}", fault=False)


def _clocks(found: Status) -> Iterator[Attention]:
    for item in found.workers:
        skew = item.worker.skew
        if item.state != "lost" and skew is not None and abs(skew) > SKEW_TOLERATED:
            way = "ahead of" if skew > 0 else "behind"
            text = f"the clock of host {item.worker.host} is {abs(skew):.1f} s {way} the store's"
            yield Attention("clock_skew", f"{text} (worker {item.worker.name})")
        jump = item.worker.clock_jump
        if item.state != "lost" and jump:
            size = format_duration(timedelta(seconds=abs(round(jump))))
            text = f"the store's clock jumped {size} {'ahead' if jump > 0 else 'back'}"
            yield Attention(
                "clock_jump", f"{text}; nothing is purged for an hour ({worker_in_words(item)} saw it)"
            )


def _variables(unused: "Unused | None", url: str) -> Iterator[Attention]:
    if unused:
        text = f"{unused.sentence}: jobs are in {url}"
        yield Attention("unused_variables", text, unused.command, fault=False)


def _word(name: str) -> str:
    """A name, quoted for a shell."""
    from shlex import quote  # imported here, because it is rarely needed

    return quote(name)
