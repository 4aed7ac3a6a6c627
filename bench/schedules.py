"""The measurements of schedules: what idle ones cost, how late one fires, and many that are due in one second."""

import statistics
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.place import Kind, Place, place
from bench.rows import Row, _family, _has_worker, cpu, eventually
from queuectl.domain import schedule
from queuectl.domain.query import Filter
from queuectl.domain.schedule import Schedule
from queuectl.domain.schedule_definition import define
from queuectl.service.schedules.changing import swap_of

IDLE, DUE = 1000, 5000
STEP = 500
LOOKED_AT = 15


def schedules_idle(kind: Kind = "sqlite") -> Row:
    """What a thousand schedules that are not due add to the processor time of an idle worker."""
    shares = []
    for count in (0, IDLE):
        with place(kind) as here:
            here.run("doctor", "--create")
            _add(here, count, "@yearly", datetime.now(UTC))
            with here.worker("--count", "2") as worker:
                eventually(lambda here=here: _has_worker(here))
                threading.Event().wait(3)
                before, start = sum(map(cpu, _family(worker.pid))), time.monotonic()
                threading.Event().wait(20)
                shares.append((sum(map(cpu, _family(worker.pid))) - before) / (time.monotonic() - start))
    added = shares[1] - shares[0]
    detail = f"{100 * shares[1]:.2f} % of a core with {IDLE}, {100 * shares[0]:.2f} % without"
    return Row("schedules-idle", f"{100 * added:.2f} % of a core", "≤ 0.10 %", added <= 0.001, detail)


def schedules_late(kind: Kind = "sqlite") -> Row:
    """How late an idle worker decides the instants of a schedule that fires each second."""
    with place(kind) as here:
        here.run("doctor", "--create")
        with here.worker("--count", "2"):
            eventually(lambda: _has_worker(here))
            here.run("schedule", "add", "s", "* * * * * *", "--overlap", "allow", "--hold", "true")
            store = here.store()

            def decided() -> Schedule | None:
                found = schedule.schedule_of("s", store.read_table("schedules")["s"].value)
                return found if found and len(found.decisions) >= LOOKED_AT else None

            found = eventually(decided)
    assert isinstance(found, Schedule)
    late = [(each.decided_at - each.instant).total_seconds() for each in found.decisions]
    middle, most = statistics.median(late), max(late)
    figure = f"p50 {1000 * middle:.0f} ms, max {1000 * most:.0f} ms"
    return Row(
        "schedules-late", figure, "≤ 300, ≤ 1500 ms", middle <= 0.3 and most <= 1.5, f"{len(late)} instants"
    )


def schedules_due(kind: Kind = "sqlite", goal: float = 15.0) -> Row:
    """Until the jobs of five thousand schedules that are due in one second are stored, by one idle worker."""
    with place(kind) as here:
        here.run("doctor", "--create")
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
        _add(here, DUE, "@every 1d", at - timedelta(days=1))
        with here.worker("--count", "2"):
            eventually(lambda: _has_worker(here))
            store = here.store()
            assert datetime.now(UTC) < at, "the schedules were due before they were stored"
            eventually(lambda: store.counts(Filter()).total() >= DUE, within=120.0)
            seconds = (datetime.now(UTC) - at).total_seconds()
    detail = f"{DUE} schedules with the same instant, one worker"
    return Row("schedules-due", f"{seconds:.1f} s", f"≤ {goal:.0f} s", seconds <= goal, detail)


def _add(here: Place, count: int, when: str, now: datetime) -> None:
    job = {"command": "true", "cwd": "/", "hold": True}
    definition = define({"when": when, "job": job}, timezone="UTC")
    store = here.store()
    made = [swap_of(schedule.new(f"s{n}", definition, now), 0) for n in range(count)]
    for start in range(0, count, STEP):
        assert all(store.swap(made[start : start + STEP]))


_KINDS: tuple[Kind, ...] = ("postgres", "mongodb", "redis", "archived")
SCHEDULES: dict[str, Callable[[], Row]] = {
    "schedules-idle": schedules_idle,
    "schedules-late": schedules_late,
    "schedules-due": partial(schedules_due, "sqlite", 5.0),
    **{f"schedules-idle-{kind}": partial(schedules_idle, kind) for kind in _KINDS},
    **{f"schedules-late-{kind}": partial(schedules_late, kind) for kind in _KINDS},
    **{f"schedules-due-{kind}": partial(schedules_due, kind) for kind in _KINDS},
}
