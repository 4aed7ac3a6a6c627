"""The vital signs of a store as metric families.

No label has a value that a client can choose, except the name of a queue: the queues with most jobs have series of
their own, and the others share one. While the store does not answer, its series are absent: an old number would look
like a healthy store.
"""

from collections.abc import Iterator, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric

from queuectl import __version__
from queuectl.domain.figures import Tally
from queuectl.domain.job import STATES, TERMINAL
from queuectl.domain.operation import OPERATION_STATES
from queuectl.domain.outcome import Kind
from queuectl.http.exposition import Counter, Gauge, Histogram, Samples, gauge
from queuectl.http.health import Result
from queuectl.service.consumption import Vitals
from queuectl.service.queue_status import QueueStatus
from queuectl.service.worker_status import WorkerStatus

QUEUES = 200
"""At most this many queues have series of their own."""

HISTOGRAM_QUEUES = 60
"""At most this many queues have histograms of their own: a histogram is 16 series, and a server shows at most 8,000."""

OUTCOMES = tuple(kind for kind in get_args(Kind) if kind != "fenced")
"""The outcomes that are recorded."""

OTHER = "other"
"""The label of all other queues together."""

WORKER_STATES = ("running", "draining", "paused", "lost")


def families(result: Result) -> Iterator[Samples | Metric]:
    """The metric families of one result of a probe."""
    yield gauge("queuectl_up", "1 if the store answers, else 0", result.vitals is not None)
    labels = {"version": __version__}
    if result.about:
        labels |= {"store": result.about.kind, "durability": result.about.durability}
    yield InfoMetricFamily("queuectl", "Version of the server, kind of the store, durability", labels)
    if result.vitals:
        yield from _of_store(result.vitals)
        yield from _of_figures(result.sums)


def _of_store(vitals: Vitals) -> Iterator[Samples | Metric]:
    yield gauge(
        "queuectl_consuming", "1 if the due jobs of all queues are consumed, else 0", not vitals.unconsumed
    )
    yield CounterMetricFamily(
        "queuectl_jobs_enqueued", "Job numbers that the store has assigned", vitals.enqueued
    )
    operations = Gauge("queuectl_operations", "Operations that run, or ended within a week", ["state"])
    for state in OPERATION_STATES:
        operations.add(vitals.operations.get(state, 0), state)
    yield operations
    yield gauge(
        "queuectl_schedule_late_seconds",
        "How long the schedule has been due that is due for the longest time; 0 if no schedule is due",
        (vitals.now - vitals.late).total_seconds() if vitals.late else 0,
    )
    yield gauge("queuectl_hooks_failing", "Hooks whose newest attempt failed", vitals.failing)
    yield from _of_queues(vitals)
    yield from _of_workers(vitals)


def _of_queues(vitals: Vitals) -> Iterator[Gauge]:
    shown, others = _divided(vitals.queues)
    jobs = Gauge("queuectl_jobs", "Jobs", ["queue", "state"])
    due = Gauge(
        "queuectl_queue_oldest_due_seconds",
        "How long the longest waiting due job has been due; 0 if no job is due",
        ["queue"],
    )
    paused = Gauge("queuectl_queue_paused", "1 if the queue is paused, else 0", ["queue"])
    limit = Gauge("queuectl_queue_limit", "How many jobs of the queue may run at once", ["queue"])
    for name, group in [*((queue.name, [queue]) for queue in shown), *([(OTHER, others)] if others else [])]:
        for state in STATES:
            jobs.add(sum(queue.jobs.get(state, 0) for queue in group), name, state)
        ages = [(vitals.now - queue.oldest_due).total_seconds() for queue in group if queue.oldest_due]
        due.add(max(0.0, *ages) if ages else 0, name)
        if group is not others:
            paused.add(group[0].paused, name)
            if group[0].limit is not None:
                limit.add(group[0].limit, name)
    yield from (jobs, due, paused, limit)


def _divided(queues: Sequence[QueueStatus]) -> tuple[list[QueueStatus], list[QueueStatus]]:
    """The queues with series of their own, and the others. A queue whose name is `other` is one of the others."""
    named = [queue for queue in queues if queue.name != OTHER]
    named.sort(key=lambda queue: (-sum(queue.jobs.values()), queue.name))
    rest = [*named[QUEUES:], *(queue for queue in queues if queue.name == OTHER)]
    return sorted(named[:QUEUES], key=lambda queue: queue.name), rest


def _of_figures(sums: Sequence[tuple[str, Tally]]) -> Iterator[Samples]:
    """The counters. Which queues have series of their own never changes, so that no counter falls."""
    attempts = Counter("queuectl_attempts", "Attempts that ended", ["queue", "outcome"])
    ended = Counter("queuectl_jobs_ended", "Jobs that a worker ended", ["queue", "state"])
    for queue, tally in _first(sums, QUEUES):
        for outcome in OUTCOMES:
            attempts.add(tally.outcomes.get(outcome, 0), queue, outcome)
        for state in sorted(TERMINAL):
            ended.add(tally.ended.get(state, 0), queue, state)
    wait = Histogram("queuectl_wait_seconds", "From due to the start of an attempt", ["queue"])
    run = Histogram("queuectl_run_seconds", "From the start of an attempt to its end", ["queue"])
    for queue, tally in _first(sums, HISTOGRAM_QUEUES):
        for histogram, durations in ((wait, tally.wait), (run, tally.run)):
            histogram.add(durations.cumulative(), durations.count, durations.total, queue)
    lost = Counter("queuectl_lost", "Attempts that were lost")
    lost.add(sum(tally.outcomes.get("lost", 0) for _, tally in sums))
    yield from (attempts, ended, wait, run, lost)


def _first(sums: Sequence[tuple[str, Tally]], most: int) -> list[tuple[str, Tally]]:
    """The first queues, and the others together."""
    named = [each for each in sums if each[0] != OTHER]
    rest = [*named[most:], *(each for each in sums if each[0] == OTHER)]
    if not rest:
        return named
    others = Tally()
    for _, tally in rest:
        others.merge(tally)
    return [*named[:most], (OTHER, others)]


def _of_workers(vitals: Vitals) -> Iterator[Gauge]:
    living = [item for item in vitals.workers if item.state != "lost"]
    workers = Gauge("queuectl_workers", "Workers in the registry", ["state"])
    for state in WORKER_STATES:
        workers.add(sum(item.state == state for item in vitals.workers), state)
    yield workers
    busy = sum(bool(slot.job) for item in living for slot in item.slots)
    slots = Gauge("queuectl_slots", "Slots of the workers that are not lost", ["state"])
    slots.add(busy, "processing")
    slots.add(sum(item.worker.count for item in living) - busy, "idle")
    yield slots
    oldest = Gauge(
        "queuectl_heartbeat_age_seconds",
        "Time since the last heartbeat of the worker that was silent for the longest time and is not lost",
    )
    if ages := [age for item in living if (age := _silence(item, vitals)) is not None]:
        oldest.add(max(0.0, *ages))
    yield oldest


def _silence(item: WorkerStatus, vitals: Vitals) -> float | None:
    heartbeat = item.worker.heartbeat
    return None if heartbeat is None else (vitals.now - heartbeat).total_seconds()
