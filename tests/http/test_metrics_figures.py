"""The counters and histograms of `/metrics`: exact for a known history, never falling, and bounded."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from contract.grounds import SteppedClock
from factories import processing, report
from metric_samples import ABOUT, Samples, samples, value
from queuectl.domain import lifecycle
from queuectl.domain.figures import BOUNDS, Durations, Tally
from queuectl.errors import StoreUnavailable
from queuectl.http.exposition import Counter, Histogram
from queuectl.http.health import Health, Result
from queuectl.http.metrics import Metrics
from queuectl.http.store_metrics import HISTOGRAM_QUEUES, QUEUES
from queuectl.service import figures
from queuectl.service.figures import Writer
from queuectl.service.local_queue import LocalQueue
from queuectl.service.queue_status import QueueStatus
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Store, Swap
from queuectl.store.sqlite import SqliteStore

WEEK = timedelta(days=7)
TIMES = (0.005, 0.01, 0.3, 2, 59, 60, 61, 20_000)
"""Run times; the wait is twice as long."""


def queue_of(store: Store) -> LocalQueue:
    return LocalQueue(store, Sources({}, None, lambda text: None))


def shown(store: Store) -> Samples:
    """The metrics of a store, without a server."""
    health = Health()
    health.probe(queue_of(store))
    return samples(Metrics().text(health.newest, "", {})[0])


def settle(
    writer: Writer, now: datetime, *, run: float = 1, exit_code: int = 0, queue: str = "default"
) -> None:
    """Count a job that ended now."""
    started = now - timedelta(seconds=run)
    job = processing(now=started - timedelta(seconds=2 * run), queue=queue, max_retries=0)
    said = report(exit_code=exit_code, now=now, started_at=started)
    writer.count(job, lifecycle.finish(job, said, now=now, random_number=0), now)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def store(clock: SteppedClock) -> MemoryStore:
    return MemoryStore(clock=clock)


def test_a_known_history_gives_exact_numbers(store: MemoryStore, clock: SteppedClock) -> None:
    writer = Writer("w1.a")
    for seconds in TIMES:
        settle(writer, clock.now(), run=seconds)
    settle(writer, clock.now(), exit_code=4, queue="mail")
    lost = lifecycle.lose(processing(now=clock.now()), report("lost", now=clock.now()), now=clock.now())
    writer.count_recovered(lost)
    writer.write(store)
    found = shown(store)
    assert value(found, "queuectl_jobs_ended_total", queue="default", state="completed") == 8
    assert value(found, "queuectl_jobs_ended_total", queue="mail", state="dead") == 1
    assert value(found, "queuectl_jobs_ended_total", queue="mail", state="cancelled") == 0
    assert value(found, "queuectl_attempts_total", queue="default", outcome="exited") == 8
    assert value(found, "queuectl_attempts_total", queue="default", outcome="lost") == 1
    assert value(found, "queuectl_attempts_total", queue="mail", outcome="timed_out") == 0
    assert value(found, "queuectl_lost_total") == 1
    assert value(found, "queuectl_run_seconds_count", queue="default") == 8
    assert value(found, "queuectl_run_seconds_sum", queue="default") == pytest.approx(sum(TIMES))
    assert value(found, "queuectl_wait_seconds_sum", queue="default") == pytest.approx(2 * sum(TIMES))
    for bound in BOUNDS:
        labels = {"queue": "default", "le": f"{float(bound)}"}
        assert value(found, "queuectl_run_seconds_bucket", **labels) == sum(t <= bound for t in TIMES)
        assert value(found, "queuectl_wait_seconds_bucket", **labels) == sum(2 * t <= bound for t in TIMES)
    assert value(found, "queuectl_run_seconds_bucket", queue="default", le="+Inf") == 8


def counters(found: Samples) -> dict[object, float]:
    """The samples that must not fall."""
    ends = ("_total", "_bucket", "_count", "_sum")
    return {key: number for key, number in found.items() if key[0].endswith(ends) and "store_s" not in key[0]}


def test_no_counter_falls_over_merges_trims_restarts_and_two_servers(tmp_path: Path) -> None:
    clock, path = SteppedClock(), tmp_path / "queue.db"
    store = SqliteStore(path, clock=clock)
    store.migrate()
    seen, writers = list[dict[object, float]](), [Writer("w1.a"), Writer("w2.b")]
    for n in range(60):
        for writer in writers:
            settle(writer, clock.now(), queue=f"q{n % 7}", exit_code=n % 2)
            writer.write(store)
        seen.append(counters(shown(store)))
        if n % 3 == 0:
            figures.merge(store, timedelta(hours=5))
            seen.append(counters(shown(store)))
        if n % 20 == 10:
            other = SqliteStore(path, clock=clock)
            assert counters(shown(other)) == seen[-1]
            store.close()
            store = other
        clock.step(minutes=17)
    assert len(store.read_table("hours")) < 8
    for before, after in pairwise(seen):
        assert all(after[key] >= number for key, number in before.items())
    assert (
        sum(number for key, number in seen[-1].items() if str(key).startswith("('queuectl_attempts")) == 120
    )
    store.close()


def tallies(names: Sequence[str]) -> list[tuple[str, Tally]]:
    found = list[tuple[str, Tally]]()
    for name in names:
        tally = Tally({"exited": 2, "lost": 1}, {"completed": 2})
        tally.wait.add(1)
        tally.run.add(2)
        found.append((name, tally))
    return found


def test_series_are_bounded(store: MemoryStore) -> None:
    names = [f"q{n}" for n in range(QUEUES + 50)]
    statuses = [QueueStatus(name, False, 1, {"pending": 1}) for name in names]
    vitals = queue_of(store).vitals()
    vitals = replace(vitals, queues=statuses)
    found = samples(Metrics().text(Result(vitals, ABOUT, sums=tallies(names)), "", {})[0])
    assert len(found) < 6200, "the series of the process need the rest of 8,000"
    assert value(found, "queuectl_attempts_total", queue="other", outcome="exited") == 100
    assert value(found, "queuectl_run_seconds_count", queue="other") == QUEUES + 50 - HISTOGRAM_QUEUES
    assert value(found, "queuectl_lost_total") == QUEUES + 50
    assert ("queuectl_attempts_total", (("outcome", "exited"), ("queue", f"q{QUEUES}"))) not in found


def test_a_later_queue_does_not_take_the_series_of_an_earlier_one(store: MemoryStore) -> None:
    vitals = queue_of(store).vitals()
    names = [f"q{n}" for n in range(QUEUES)]

    def own(sums: list[tuple[str, Tally]]) -> set[str]:
        text = Metrics().text(Result(vitals, ABOUT, sums=sums), "", {})[0]
        return {dict(labels)["queue"] for name, labels in samples(text) if name == "queuectl_attempts_total"}

    big = tallies(["big"])
    big[0][1].outcomes["exited"] = 9_000
    assert own(tallies(names)) == set(names)
    assert own(tallies(names) + big) == {*names, "other"}


def test_a_first_request_with_200_queues_is_cheap(store: MemoryStore) -> None:
    names, chance = [f"q{n}" for n in range(QUEUES)], random.Random(1)
    vitals, sums = queue_of(store).vitals(), tallies(names)
    for _, tally in sums:
        for _ in range(50):
            tally.run.add(chance.expovariate(0.1))

    def cost() -> float:
        metrics, result = Metrics(), Result(vitals, ABOUT, sums=sums)
        start = time.process_time()
        metrics.text(result, "", {})
        return time.process_time() - start

    assert min(cost() for _ in range(5)) < 0.030


def test_a_late_schedule(store: MemoryStore, clock: SteppedClock) -> None:
    assert value(shown(store), "queuectl_schedule_late_seconds") == 0
    store.swap([Swap("schedules", "s", {"when": "@hourly"}, 0, due=clock.now())])
    clock.step(minutes=7)
    assert value(shown(store), "queuectl_schedule_late_seconds") == 420


def test_without_a_store_no_counter_is_shown(store: MemoryStore, clock: SteppedClock) -> None:
    settle(writer := Writer("w1.a"), clock.now())
    writer.write(store)
    health, queue = Health(), queue_of(store)
    health.probe(queue)
    assert health.newest.sums

    def away() -> None:
        raise StoreUnavailable("away")

    queue.vitals = away  # type: ignore[method-assign,assignment]
    health.probe(queue)
    found = samples(Metrics().text(health.newest, "", {})[0])
    assert value(found, "queuectl_up") == 0
    assert not {
        name for name, _ in found if name.startswith(("queuectl_attempts", "queuectl_run", "queuectl_lost"))
    }


def test_figures_that_take_long_are_read_more_rarely(store: MemoryStore) -> None:
    ticks, reads = [100.0], list[float]()
    health, queue = Health(lambda: ticks[0]), queue_of(store)

    def slow() -> list[tuple[str, Tally]]:
        reads.append(ticks[0])
        ticks[0] += 0.2
        return []

    queue.sums = slow  # type: ignore[method-assign,assignment]
    for _ in range(10):
        health.probe(queue)
        ticks[0] += 2
    assert reads == pytest.approx([100, 112.2], abs=0.5)


@pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
def test_counters_and_histograms_are_written_as_the_library_writes_them(
    generate: Callable[[CollectorRegistry], bytes],
) -> None:
    counter, theirs = (
        Counter("queuectl_x", "Things", ["queue"]),
        CounterMetricFamily("queuectl_x", "Things", labels=["queue"]),
    )
    for queue, number in (('a"b\\c\nd', 3), ("b", 12_345_678)):
        counter.add(number, queue)
        theirs.add_metric([queue], number)

    class Registry(CollectorRegistry):
        def collect(self) -> Iterator[Metric]:
            yield theirs

    as_openmetrics = generate is generate_openmetrics
    assert counter.text(as_openmetrics) == generate(Registry()).removesuffix(b"# EOF\n")
    registry = CollectorRegistry()
    library = LibraryHistogram("queuectl_run_seconds", "Run", ["queue"], registry=registry, buckets=BOUNDS)
    ours, durations = Histogram("queuectl_run_seconds", "Run", ["queue"]), Durations()
    for seconds in TIMES:
        library.labels("a").observe(seconds)
        durations.add(seconds)
    ours.add(durations.cumulative(), durations.count, durations.total, "a")
    assert ours.text(as_openmetrics) == generate(registry).removesuffix(b"# EOF\n")
