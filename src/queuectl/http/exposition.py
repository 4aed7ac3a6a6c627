"""Metric families as text, in the two formats of Prometheus."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

END = b"# EOF\n"
"""The last line of OpenMetrics."""


class Gauge:
    """A gauge as text, which is the same in both formats.

    The library's own gauge is slower, because it checks the names of each sample again: the 2,200 samples of 200 queues
    take 12 ms, as OpenMetrics 17 ms, and with this class 5 ms.
    """

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self._name, self._labels = name, labels
        self._lines = [f"# HELP {name} {help}\n# TYPE {name} gauge\n"]

    def add(self, value: float, *labels: str) -> None:
        """Add a sample. `labels` are the values of the labels."""
        pairs = ",".join(
            [f'{key}="{_escaped(each)}"' for key, each in zip(self._labels, labels, strict=True)]
        )
        name = f"{self._name}{{{pairs}}}" if pairs else self._name
        number = floatToGoString(value)  # type: ignore[no-untyped-call]
        self._lines.append(f"{name} {number}\n")

    def text(self) -> bytes:
        """All samples."""
        return "".join(self._lines).encode()


def gauge(name: str, help: str, value: float) -> Gauge:
    """A gauge with one sample that has no labels."""
    made = Gauge(name, help)
    made.add(value)
    return made


def text(families: Iterable[Gauge | Metric], as_openmetrics: bool) -> bytes:
    """The families as text, without the last line of OpenMetrics."""
    return b"".join(
        each.text() if isinstance(each, Gauge) else _by_library(each, as_openmetrics) for each in families
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _by_library(family: Metric, as_openmetrics: bool) -> bytes:
    if as_openmetrics:
        text: bytes = generate_openmetrics(_One(family))  # type: ignore[no-untyped-call]
        return text.removesuffix(END)
    return generate_latest(_One(family))


class _One(CollectorRegistry):
    """A registry with one family, as the library wants it."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
