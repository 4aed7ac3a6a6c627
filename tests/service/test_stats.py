"""Statistics of jobs with known times: percentiles within 10 %, sums, groups and limits of time."""

import random
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock
from factories import NOW, processing, report
from queuectl.domain import lifecycle
from queuectl.errors import InvalidInput
from queuectl.service import figures
from queuectl.service.figures import Writer
from queuectl.service.local_queue import LocalQueue
from queuectl.service.shapes.stats import stats as shape
from queuectl.service.shapes.stats import stats_of
from queuectl.service.stats import Question, Stats, StatsRow
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap

JOBS = 2000
WEEK, MINUTE = timedelta(days=7), timedelta(minutes=1)


def settle(
    writer: Writer, now: datetime, *, wait: float = 0, run: float = 1, exit_code: int = 0, **fields: Any
) -> None:
    """Count a job that ended now after it ran for `run` and waited for `wait` seconds."""
    started = now - timedelta(seconds=run)
    job = processing(now=started - timedelta(seconds=wait), **fields)
    said = report(exit_code=exit_code, now=now, started_at=started, user_cpu=0.2, system_cpu=0.05)
    writer.count(job, lifecycle.finish(job, said, now=now, random_number=0), now)


def only(found: Stats) -> StatsRow:
    [row] = found.rows
    return row


def test_two_thousand_jobs_of_known_times(queue: LocalQueue, store: MemoryStore, clock: SteppedClock) -> None:
    chance, writer = random.Random(3), Writer("w1.a")
    waits = [chance.expovariate(1 / 20) + 0.01 for _ in range(JOBS)]
    runs = [chance.lognormvariate(0, 2) + 0.01 for _ in range(JOBS)]
    codes = [chance.choice((0, 0, 0, 1, 75)) for _ in range(JOBS)]
    for wait, run, code in zip(waits, runs, codes, strict=True):
        settle(writer, clock.step(seconds=1), wait=wait, run=run, exit_code=code, max_retries=0)
        if chance.random() < 0.1:
            writer.write(store)
    writer.write(store)
    found = queue.stats(Question())
    row = only(found)
    failed = sum(code != 0 for code in codes)
    assert (row.key, row.ended, row.completed) == ("default", JOBS, JOBS - failed)
    assert (row.failed, row.dead) == (failed, failed)
    assert row.exit_codes == {"1": codes.count(1), "75": codes.count(75)}
    assert row.cpu == pytest.approx(JOBS * 0.25)
    assert row.per_minute == pytest.approx(JOBS * MINUTE / (found.until - found.since), abs=0.001)

    def true(values: list[float], share: float) -> Any:
        return pytest.approx(sorted(values)[round(share * JOBS) - 1], rel=0.1)

    assert (row.wait.p50, row.wait.p95) == (true(waits, 0.5), true(waits, 0.95))
    assert (row.run.p50, row.run.p95, row.run.p99) == (true(runs, 0.5), true(runs, 0.95), true(runs, 0.99))
    assert row.run.max == pytest.approx(max(runs), abs=0.001)


@pytest.fixture
def mixed(store: MemoryStore, clock: SteppedClock) -> None:
    """Two hours of two workers, queues and programs."""
    writers = {name: Writer(f"{name}.a") for name in ("w1", "w2")}
    for _ in range(8):
        for name, writer in writers.items():
            settle(writer, clock.now(), queue="mail" if name == "w1" else "build", command=f"/bin/{name} x")
            settle(writer, clock.now(), queue="mail", command="make", exit_code=2)
            writer.write(store)
        clock.step(minutes=15)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("merged", [False, True])
def test_groups(queue: LocalQueue, store: MemoryStore, clock: SteppedClock, merged: bool) -> None:
    if merged:
        clock.step(hours=3)
        figures.merge(store, WEEK)

    def ends(**asked: Any) -> dict[str, tuple[int, int]]:
        found = queue.stats(Question(since=NOW, **asked))
        return {row.key: (row.ended, row.failed) for row in found.rows}

    assert ends() == {"mail": (8, 16), "build": (8, 0)}
    assert ends(by="label") == {"make": (0, 16), "w1": (8, 0), "w2": (8, 0)}
    assert ends(by="worker") == {"w1": (16, 16)}
    assert ends(by="hour") == {"2026-11-22T12:00:00Z": (8, 8), "2026-11-22T13:00:00Z": (8, 8)}
    assert ends(by="label", queue="build") == {"w2": (8, 0)}
    assert ends(label="make") == {"mail": (0, 16)}
    assert ends(queue="none") == {}


@pytest.mark.usefixtures("mixed")
def test_the_time(queue: LocalQueue, clock: SteppedClock) -> None:
    now = clock.now()
    found = queue.stats(Question())
    assert (found.since, found.until) == (now - timedelta(hours=1), now)
    assert found.complete_until == now - timedelta(seconds=12)
    assert sum(row.failed for row in found.rows) == 8
    earlier = queue.stats(Question(since=NOW, until=NOW + timedelta(minutes=20)))
    assert sum(row.failed for row in earlier.rows) == 4
    assert earlier.complete_until == earlier.until == NOW + timedelta(minutes=20)
    assert queue.stats(Question(until=now + timedelta(days=1))).until == now
    with pytest.raises(InvalidInput, match="is not before"):
        queue.stats(Question(since=now + timedelta(seconds=1)))


@pytest.mark.usefixtures("mixed")
def test_the_document(queue: LocalQueue, clock: SteppedClock) -> None:
    settle(writer := Writer("w1.a"), clock.now(), queue="late")
    found = queue.stats(Question(since=NOW, queue="build"))
    assert shape(found) == {
        "schema": 1,
        "since": "2026-11-22T12:00:00.000000Z",
        "until": "2026-11-22T14:00:00.000000Z",
        "complete_until": "2026-11-22T13:59:48.000000Z",
        "rows": [
            {
                "key": "build",
                "ended": 8,
                "completed": 8,
                "failed": 0,
                "dead": 0,
                "per_minute": 0.067,
                "wait": {"p50": 0.0, "p95": 0.0},
                "run": {"p50": pytest.approx(1, rel=0.05), "p95": pytest.approx(1, rel=0.05),
                        "p99": pytest.approx(1, rel=0.05), "max": 1.0},
                "cpu": 2.0,
                "exit_codes": {},
            }
        ],
    }  # fmt: skip
    assert stats_of(shape(found)) == replace(found)
    assert writer.is_waiting


def test_a_day_of_ten_workers_is_read_quickly(
    queue: LocalQueue, store: MemoryStore, clock: SteppedClock
) -> None:
    """Two hours by the minute and 22 by the hour, with nine queues and programs: 0.1 s when nothing else runs."""
    chance = random.Random(5)
    minutes, hour = dict[str, dict[str, Any]](), figures.Sheet()
    for worker in range(10):
        sheet = figures.Sheet()
        for n in range(90):
            job = processing(now=NOW, queue=f"q{n % 3}", command=f"program{n % 9}")
            ended = NOW + timedelta(seconds=chance.lognormvariate(1, 2))
            after = lifecycle.finish(job, report(now=ended, started_at=NOW), now=ended, random_number=0)
            after = replace(after, history=(replace(after.history[0], worker=f"w{worker}"),))
            sheet.count(after.history[0], after, NOW - timedelta(seconds=chance.expovariate(0.1)))
        minutes[f"w{worker}"] = sheet.encode()
        for _ in range(60):
            hour.merge(sheet.rows.items())
    names = list(figures.hours("2026-11-22T12", "2026-11-23T12"))
    store.swap([Swap("hours", name, hour.encode(), 0) for name in names[:22]])
    store.swap([Swap("hours", figures.TOTAL, {"since": names[0], "upto": names[21], "queues": []}, 0)])
    for name in names[22:]:
        store.swap(
            [Swap("figures", f"{name}:{m:02}/{w}", v, 0) for m in range(60) for w, v in minutes.items()]
        )
    clock.step(days=1)

    def cost() -> float:
        start = time.process_time()
        found = queue.stats(Question(since=NOW))
        assert sum(row.ended for row in found.rows) == 24 * 60 * 10 * 90
        return time.process_time() - start

    assert min(cost() for _ in range(5)) < 0.3
