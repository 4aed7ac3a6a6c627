"""The metrics of a server: the numbers of its store and those of this process, in the formats of Prometheus."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from queuectl.http import exposition, store_metrics
from queuectl.http.exposition import Gauge
from queuectl.http.health import Result

NO_ROUTE = "none"
"""The label of requests for a path that no row of the route table has."""

BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)
OPENMETRICS = "application/openmetrics-text"

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
        text = self._of_store(result, as_openmetrics)
        text += exposition.text(self._of_process(streams), as_openmetrics)
        if as_openmetrics:
            return text + exposition.END, CONTENT_TYPE_LATEST
        return text, CONTENT_TYPE_PLAIN_0_0_4

    def _of_store(self, result: Result, as_openmetrics: bool) -> bytes:
        """The text about the store. With many queues it takes long, so it is made once for each result of a probe."""
        known = self._texts.get(as_openmetrics)
        if known is None or known[0] is not result:
            text = exposition.text(store_metrics.families(result), as_openmetrics)
            known = self._texts[as_openmetrics] = (result, text)
        return known[1]

    def _of_process(self, streams: Mapping[str, int]) -> Iterator[Gauge | Metric]:
        failures = self.auth_failures()
        yield CounterMetricFamily("queuectl_auth_failures", "Requests with a wrong token", failures)
        opened = Gauge("queuectl_streams", "Open streams", ["kind"])
        for kind, number in streams.items():
            opened.add(number, kind)
        yield opened
        yield from self._own.collect()
