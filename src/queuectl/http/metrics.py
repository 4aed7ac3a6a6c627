"""The metrics of a server in the formats of Prometheus: the vital signs of the store, and the numbers of this process.

No label has a value that a client can choose, except the name of a queue: the queues with most jobs have series of
their own, and the others share one. While the store does not answer, its series are absent: an old number would look
like a healthy store.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from queuectl import __version__
from queuectl.domain.job import STATES
from queuectl.http.health import Result
from queuectl.service.consumption import Vitals
from queuectl.service.queries import QueueStatus, WorkerStatus

QUEUES = 200
"""At most this many queues have series of their own."""

OTHER = "other"
"""The label of all other queues together."""

NO_ROUTE = "none"
"""The label of requests for a path that no row of the route table has."""

BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)
WORKER_STATES = ("running", "draining", "paused", "lost")
OPENMETRICS = "application/openmetrics-text"
END = b"# EOF\n"
"""The last line of OpenMetrics."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter and histogram, which nothing reads


class Metrics:
    """The numbers of this process. Safe to use from several threads.

    auth_failures  returns the number of wrong tokens so far
    """

    def __init__(self) -> None:
        self._own = own = CollectorRegistry(auto_describe=False)
        self._verbs = Histogram(
            "queuectl_store_seconds",
            "Duration of calls of the store",
            ["verb"],
            registry=own,
            buckets=BOUNDS,
        )
        self._requests = Counter(
            "queuectl_http_requests", "Answered requests", ["route", "status"], registry=own
        )
        self._answers = Histogram(
            "queuectl_http_seconds",
            "Time until a request is answered; of a stream, until it begins",
            ["route"],
            registry=own,
            buckets=BOUNDS,
        )
        self._texts: dict[bool, tuple[Result, bytes]] = {}
        self.auth_failures: Callable[[], int] = lambda: 0

    def note_verb(self, verb: str, seconds: float) -> None:
        """Count one call of the store."""
        self._verbs.labels(verb).observe(seconds)

    def note_request(self, route: str | None, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the path of the row in the route table; None if no row has it."""
        self._requests.labels(route or NO_ROUTE, status).inc()
        self._answers.labels(route or NO_ROUTE).observe(seconds)

    def text(self, result: Result, accept: str, streams: Mapping[str, int]) -> tuple[bytes, str]:
        """All metrics as text, and the content type: OpenMetrics if `accept` names it, else the format 0.0.4.

        `streams` are the numbers of open streams, by kind.
        """
        as_openmetrics = OPENMETRICS in accept
        text = self._of_store(result, as_openmetrics) + _render(self._of_process(streams), as_openmetrics)
        return text, openmetrics.CONTENT_TYPE_LATEST if as_openmetrics else CONTENT_TYPE_PLAIN_0_0_4

    def _of_store(self, result: Result, as_openmetrics: bool) -> bytes:
        """The text about the store. With many queues it takes long, so it is made once for each result of a probe."""
        known = self._texts.get(as_openmetrics)
        if known is None or known[0] is not result:
            text = _render(_of_result(result), as_openmetrics).removesuffix(END)
            known = self._texts[as_openmetrics] = (result, text)
        return known[1]

    def _of_process(self, streams: Mapping[str, int]) -> Iterator[Metric]:
        failures = self.auth_failures()
        yield CounterMetricFamily("queuectl_auth_failures", "Requests with a wrong token", failures)
        opened = GaugeMetricFamily("queuectl_streams", "Open streams", labels=["kind"])
        for kind, number in streams.items():
            opened.add_metric([kind], number)
        yield opened
        yield from self._own.collect()


def _render(families: Iterator[Metric], as_openmetrics: bool) -> bytes:
    if as_openmetrics:
        text: bytes = openmetrics.generate_latest(_Exposed(families))  # type: ignore[no-untyped-call]
        return text
    return generate_latest(_Exposed(families))


def _of_result(result: Result) -> Iterator[Metric]:
    yield _gauge("queuectl_up", "1 if the store answers, else 0", result.vitals is not None)
    labels = {"version": __version__}
    if result.about:
        labels |= {"store": result.about.kind, "durability": result.about.durability}
    yield InfoMetricFamily("queuectl", "Version of the server, kind of the store, durability", labels)
    if result.vitals:
        yield from _of_store(result.vitals)


class _Exposed(CollectorRegistry):
    """A registry with families that were computed."""

    def __init__(self, families: Iterator[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families


def _of_store(vitals: Vitals) -> Iterator[Metric]:
    yield _gauge(
        "queuectl_consuming", "1 if the due jobs of all queues are consumed, else 0", not vitals.unconsumed
    )
    yield CounterMetricFamily(
        "queuectl_jobs_enqueued", "Job numbers that the store has assigned", vitals.enqueued
    )
    yield from _of_queues(vitals)
    yield from _of_workers(vitals)


def _of_queues(vitals: Vitals) -> Iterator[Metric]:
    shown, others = _divided(vitals.queues)
    jobs = GaugeMetricFamily("queuectl_jobs", "Jobs", labels=["queue", "state"])
    due = GaugeMetricFamily(
        "queuectl_queue_oldest_due_seconds",
        "How long the longest waiting due job has been due; 0 if no job is due",
        labels=["queue"],
    )
    paused = GaugeMetricFamily("queuectl_queue_paused", "1 if the queue is paused, else 0", labels=["queue"])
    limit = GaugeMetricFamily(
        "queuectl_queue_limit", "How many jobs of the queue may run at once", labels=["queue"]
    )
    for name, group in [*((queue.name, [queue]) for queue in shown), *([(OTHER, others)] if others else [])]:
        for state in STATES:
            jobs.add_metric([name, state], sum(queue.jobs.get(state, 0) for queue in group))
        ages = [(vitals.now - queue.oldest_due).total_seconds() for queue in group if queue.oldest_due]
        due.add_metric([name], max(0.0, *ages) if ages else 0)
        if group is not others:
            paused.add_metric([name], group[0].paused)
            if group[0].limit is not None:
                limit.add_metric([name], group[0].limit)
    yield from (jobs, due, paused, limit)


def _divided(queues: Sequence[QueueStatus]) -> tuple[list[QueueStatus], list[QueueStatus]]:
    """The queues with series of their own, and the others. A queue whose name is `other` is one of the others."""
    named = [queue for queue in queues if queue.name != OTHER]
    named.sort(key=lambda queue: (-sum(queue.jobs.values()), queue.name))
    rest = [*named[QUEUES:], *(queue for queue in queues if queue.name == OTHER)]
    return sorted(named[:QUEUES], key=lambda queue: queue.name), rest


def _of_workers(vitals: Vitals) -> Iterator[Metric]:
    living = [item for item in vitals.workers if item.state != "lost"]
    workers = GaugeMetricFamily("queuectl_workers", "Workers in the registry", labels=["state"])
    for state in WORKER_STATES:
        workers.add_metric([state], sum(item.state == state for item in vitals.workers))
    yield workers
    busy = sum(bool(slot.job) for item in living for slot in item.slots)
    slots = GaugeMetricFamily("queuectl_slots", "Slots of the workers that are not lost", labels=["state"])
    slots.add_metric(["processing"], busy)
    slots.add_metric(["idle"], sum(item.worker.count for item in living) - busy)
    yield slots
    oldest = GaugeMetricFamily(
        "queuectl_heartbeat_age_seconds",
        "Time since the last heartbeat of the worker that was silent for the longest time and is not lost",
    )
    if ages := [age for item in living if (age := _silence(item, vitals)) is not None]:
        oldest.add_metric([], max(0.0, *ages))
    yield oldest


def _silence(item: WorkerStatus, vitals: Vitals) -> float | None:
    heartbeat = item.worker.heartbeat
    return None if heartbeat is None else (vitals.now - heartbeat).total_seconds()


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)
