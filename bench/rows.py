"""The measurements: one function a row of the table of goals. Each answers a `Row`."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apsw
from msgspec.structs import replace

from bench.place import QUEUECTL, Kind, Place, place
from queuectl.config import resolve
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.service.enqueueing import Enqueuer
from queuectl.service.request.fields import JobRequest, decode_request
from queuectl.service.request.spec import Defaults
from queuectl.store.protocol import Store
from queuectl.store.redis_archive import ArchivedStore

JOBS = 5000
BEHIND = 1_000_000
WAITING = 100_000
LINES = 100_000
BATCH = 5000
PAIRS = 5
REDIS = ("redis", "archived")
DONE = Filter(states=frozenset(("completed",)))


class Row(NamedTuple):
    """One answer: the figure, the goal, and whether it is met."""

    name: str
    figure: str
    goal: str
    met: bool
    detail: str


def noop(kind: Kind = "sqlite", goal: float = 0.80) -> Row:
    """Durable no-op jobs from end to end, against the kernel's own floor."""

    def ours() -> float:
        with place(kind) as here:
            enqueue_noops(here, JOBS)
            return timed(lambda: here.run("worker", "start", "--drain", "--count", "2", "--quiet"))

    ratios, a, b = pairs(ours, lambda: timed(_xargs))
    ratio = statistics.median(ratios)
    detail = f"{JOBS / statistics.median(a):.0f} jobs/s against {JOBS / statistics.median(b):.0f}/s"
    return Row(
        "noop", f"{ratio:.2f} × floor", f"≥ {goal:.2f}", ratio >= goal, f"{detail}; pairs {listed(ratios)}"
    )


def backlog(kind: Kind = "sqlite") -> Row:
    """The same in front of a million jobs that wait."""
    with place(kind) as small, place(kind) as large:
        pile(large, BEHIND)
        ratios, a, b = pairs(lambda: _front(large), lambda: _front(small))
    ratio = statistics.median(ratios)
    detail = f"{JOBS / statistics.median(a):.0f} jobs/s against {JOBS / statistics.median(b):.0f}/s"
    return Row(
        "backlog", f"{ratio:.2f} × itself", "≥ 0.95", ratio >= 0.95, f"{detail}; pairs {listed(ratios)}"
    )


def bulk() -> Row:
    """Enqueuing a file of JSON lines, against `executemany` of the very rows it makes."""
    lines = [json.dumps({"command": f"echo {i}", "priority": i % 7}) for i in range(LINES)]
    with place() as source:
        listing = source.root / "jobs.jsonl"
        listing.write_text("\n".join(lines) + "\n")
        source.run("enqueue", "--file", str(listing))
        rows = _rows_of(source)

        def ours() -> float:
            with place() as here:
                return timed(lambda: here.run("enqueue", "--file", str(listing)))

        ratios, a, b = pairs(ours, lambda: _executemany(rows))
    ratio = statistics.median(ratios)
    detail = f"{LINES / statistics.median(a):.0f} lines/s against {LINES / statistics.median(b):.0f} rows/s"
    return Row("bulk", f"{ratio:.2f} × raw", "≥ 0.50", ratio >= 0.50, f"{detail}; pairs {listed(ratios)}")


def cold() -> Row:
    """One enqueue, a process of its own, against the bare interpreter."""
    with place() as here:
        here.run("enqueue", "true")

        def ours() -> float:
            return timed(lambda: here.run("enqueue", "true"))

        def floor() -> float:
            return timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))

        ratios, a, b = pairs(ours, floor, count=25)
    times = 1 / statistics.median(ratios)
    detail = f"{1000 * statistics.median(a):.1f} ms against {1000 * statistics.median(b):.1f} ms"
    return Row("cold", f"{times:.1f} × python -c pass", "≤ 4", times <= 4, detail)


def latency(kind: Kind = "sqlite") -> Row:
    """From the acknowledged enqueue to the first instruction of the command, an idle worker waiting."""
    with place(kind) as here, here.worker("--count", "2"):
        eventually(lambda: _has_worker(here))
        delays = sorted(_delays(here, 150))
        spawns = sorted(_bare_spawn(here) for _ in range(50))
    floor = statistics.median(spawns)
    p50, p99 = delays[len(delays) // 2] - floor, delays[int(len(delays) * 0.99)] - floor
    figure = f"p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms"
    return Row(
        "latency",
        figure,
        "≤ 15, ≤ 50 ms",
        p50 <= 0.015 and p99 <= 0.050,
        f"above a bare spawn of {1000 * floor:.1f} ms",
    )


def status(kind: Kind = "sqlite") -> Row:
    """`queuectl status` on a store with a long past."""
    with place(kind) as here:
        pile(here, BEHIND, finished=here.kind in REDIS)
        pile(here, WAITING)
        if here.kind not in REDIS:
            finish(here, BEHIND)
        times = [timed(lambda: here.run("status")) for _ in range(9)]
    middle = 1000 * statistics.median(times)
    return Row("status", f"{middle:.0f} ms", "≤ 150 ms", middle <= 150, "1,000,000 finished, 100,000 pending")


def idle(kind: Kind = "sqlite") -> Row:
    """What a worker costs that has nothing to do."""
    with place(kind) as here, here.worker("--count", "2") as worker:
        eventually(lambda: _has_worker(here))
        threading.Event().wait(3)
        pids = _family(worker.pid)
        before, start = sum(map(cpu, pids)), time.monotonic()
        threading.Event().wait(10)
        share = (sum(map(cpu, pids)) - before) / (time.monotonic() - start)
        memory = sum(map(_pss, pids)) / 1024**2
        resident = sum(map(rss, pids)) / 1024**2
    figure = f"{100 * share:.2f} % of a core, {memory:.0f} MB"
    detail = (
        f"proportional memory of {len(pids)} processes; {resident:.0f} MB with shared pages counted each time"
    )
    return Row("idle", figure, "≤ 0.5 %, ≤ 60 MB", share <= 0.005 and resident <= 60, detail)


def yes() -> Row:
    """A command that prints without end."""
    with place() as here, here.worker("--count", "1") as worker:
        eventually(lambda: _has_worker(here))
        before, most = sum(map(rss, _family(worker.pid))), 0
        here.run("enqueue", "--timeout", "10s", "--retries", "0", "yes")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            most = max(most, sum(map(rss, _family(worker.pid, commands=False))))
            threading.Event().wait(0.2)
        job = eventually(
            lambda: (
                (found := json.loads(here.run("show", "@last", "--json"))["job"])["state"] == "dead" and found
            )
        )
    grown = (most - before) / 1024**2
    printed = job["history"][-1]["output_bytes"] / 1024**2 / 10
    return Row(
        "yes", f"{grown:+.1f} MB", "≤ +32 MB", grown <= 32, f"{printed:.0f} MB/s taken from the command"
    )


def pairs(
    ours: Callable[[], float], floor: Callable[[], float], count: int = PAIRS
) -> tuple[list[float], list[float], list[float]]:
    """Both in turn after a warm-up of each; the ratios floor/ours pair by pair, and the seconds."""
    ours(), floor()
    a, b = [], []
    for _ in range(count):
        a.append(ours())
        b.append(floor())
    return [y / x for x, y in zip(a, b, strict=True)], a, b


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def eventually(fact: Callable[[], object], within: float = 60.0) -> object:
    """Wait for a fact."""
    end = time.monotonic() + within
    while not (answer := fact()):
        if time.monotonic() > end:
            raise TimeoutError("the measurement did not come to its end")
        threading.Event().wait(0.02)
    return answer


def _xargs() -> None:
    subprocess.run(f"seq {JOBS} | xargs -P2 -n1 sh -c true", shell=True, check=True)


def enqueue_noops(here: Place, count: int, *words: str) -> None:
    listing = here.root / "noops"
    listing.write_text("true\n" * count)
    here.run("enqueue", "--file", str(listing), *words)


def _has_worker(here: Place) -> bool:
    if here.kind == "sqlite" and not here.database.exists():
        return False
    store = here.store()
    try:
        return bool(store.workers())
    finally:
        store.close()


def pile(here: Place, count: int, *, finished: bool = False) -> None:
    """Many pending jobs that are the last to be claimed, or as many that need not be any more."""
    store, defaults = here.store(), Defaults(resolve({}, {}, {}, {}), "/")
    for start in range(0, count, 20_000):
        enqueuer, request = Enqueuer(defaults, store.now()), JobRequest(command="true", priority=-1000)
        jobs = [enqueuer.job(request) for _ in range(min(20_000, count - start))]
        store.add([_finished(job) for job in jobs] if finished else jobs)
        _archive(store)
    store.close()
    if here.kind == "postgres":
        here.sql(*(f"VACUUM ANALYZE {{schema}}.{table}" for table in ("body", "live")))


def _finished(job: Job) -> Job:
    return replace(job, state="completed", finished_at=job.created_at)


def _archive(store: Store) -> None:
    """Where there is an archive, have everything there that has ended."""
    while isinstance(store, ArchivedStore) and store.archiver.archive_batch():
        pass


def finish(here: Place, count: int) -> None:
    """Make the oldest jobs completed ones, by SQL: the counters follow by themselves."""
    now = int(time.time() * 1_000_000)
    if here.kind == "postgres":
        here.sql(
            f"CREATE TEMPORARY TABLE done AS SELECT * FROM {{schema}}.live WHERE number <= {count}",
            f"UPDATE done SET state = 'completed', due = NULL, finished_at = {now}",
            f"DELETE FROM {{schema}}.live WHERE number <= {count}",
            "INSERT INTO {schema}.ended SELECT * FROM done",
            *(f"VACUUM ANALYZE {{schema}}.{table}" for table in ("live", "ended")),
        )
        return
    if here.kind in ("mongodb", "replicas"):
        _finish_in_mongo(here, count, now)
        return
    connection = apsw.Connection(str(here.database))
    connection.execute(
        "UPDATE job SET state = 'completed', due = NULL, finished_at = ? WHERE number <= ?", (now, count)
    )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _finish_in_mongo(here: Place, count: int, now: int) -> None:
    standing = "completed default"
    done = {"state": "completed", "standing": standing, "counted": standing, "told": 0, "finished_at": now}
    with here.base() as base:
        gone = dict.fromkeys(("ready", "live"), "")
        base["jobs"].update_many({"_id": {"$lte": count}}, {"$set": done, "$unset": gone})
        base["tally"].update_one({"_id": "ended"}, {"$set": {"counts": json.dumps({standing: count})}})


def _front(here: Place) -> float:
    """Time for the noops that stand in front, from the start of a worker until they are done."""
    store = here.store()
    before = store.counts(DONE).of("completed")
    enqueue_noops(here, JOBS, "--priority", "1000")
    start = time.perf_counter()
    with here.worker("--count", "2"):
        eventually(lambda: store.counts(DONE).of("completed") >= before + JOBS)
        seconds = time.perf_counter() - start
    store.close()
    return seconds


def _rows_of(here: Place) -> dict[str, list[tuple[object, ...]]]:
    connection = apsw.Connection(str(here.database))
    return {table: list(connection.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in ("job", "spec")}


def _executemany(rows: dict[str, list[tuple[object, ...]]]) -> float:
    """The floor: the same rows into the same tables, with the same indexes, counters and fsyncs."""
    with place() as here:
        store = here.store()
        store.describe()  # opens it, which makes the tables
        store.close()
        connection = apsw.Connection(str(here.database))
        connection.execute("PRAGMA synchronous = FULL")

        def insert() -> None:
            for start in range(0, LINES, BATCH):
                connection.execute("BEGIN IMMEDIATE")
                for table, values in rows.items():
                    marks = ",".join("?" * len(values[0]))
                    connection.executemany(
                        f"INSERT INTO {table} VALUES ({marks})", values[start : start + BATCH]
                    )
                connection.execute("COMMIT")

        seconds = timed(insert)
        connection.close()
        return seconds


def _delays(here: Place, count: int) -> Iterator[float]:
    store, defaults = here.store(), Defaults(resolve({}, {}, {}, {}), str(here.root))
    for i in range(count):
        threading.Event().wait(0.03 + (i * 7 % 10) / 100)
        request = decode_request(json.dumps({"command": f"date +%s%N > at-{i}"}))
        job = Enqueuer(defaults, store.now()).job(request)
        store.add([job])
        acknowledged = time.time()
        path = here.root / f"at-{i}"
        eventually(lambda path=path: path.exists() and path.read_text().endswith("\n"))
        yield int(path.read_text()) / 1e9 - acknowledged


def _bare_spawn(here: Place) -> float:
    path = here.root / "bare"
    start = time.time()
    subprocess.run(["/bin/sh", "-c", f"date +%s%N > {path}"], check=True)
    return int(path.read_text()) / 1e9 - start


def _family(holder: int, commands: bool = False) -> list[int]:
    """Holder, guard and agent."""
    found = [holder]
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [*found, *(pid for pid in pids if _parent(pid) == holder and (commands or _is_ours(pid)))]


def _is_ours(pid: int) -> bool:
    try:
        return b"queuectl" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def listed(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in sorted(values))


ROWS: dict[str, Callable[[], Row]] = {
    **{row.__name__: row for row in (noop, backlog, bulk, cold, latency, status, idle, yes)},  # type: ignore[attr-defined]
    "noop-postgres": partial(noop, "postgres", 0.60),
    **{f"{row.__name__}-postgres": partial(row, "postgres") for row in (backlog, latency, status, idle)},
    "noop-mongodb": partial(noop, "mongodb", 0.45),
    "noop-replicas": partial(noop, "replicas", 0.45),
    **{f"{row.__name__}-mongodb": partial(row, "mongodb") for row in (backlog, latency, status, idle)},
    "latency-replicas": partial(latency, "replicas"),
    "idle-replicas": partial(idle, "replicas"),
    "noop-redis": partial(noop, "redis", 0.60),
    "noop-archived": partial(noop, "archived", 0.60),
    **{f"{row.__name__}-redis": partial(row, "redis") for row in (backlog, latency, status, idle)},
    **{f"{row.__name__}-archived": partial(row, "archived") for row in (backlog, latency, status, idle)},
}

__all__ = ["QUEUECTL", "ROWS", "Row"]
