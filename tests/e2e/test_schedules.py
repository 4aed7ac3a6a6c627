"""Schedules with real workers: each instant fires once, whatever dies, and commands see their schedule."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from signal import SIGCONT

import pytest

from e2e.firers import clocked, set_clock
from e2e.harness import Place
from factories import report
from facts import TooSlow, eventually
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.domain.schedule import job_id
from queuectl.service import firing
from queuectl.service.schedules import changing, reading
from queuectl.service.schedules.changing import define_completed
from queuectl.store.protocol import Store
from service.conftest import settings_of

INSTANTS, STEP = 500, 4
"""The clock goes on by STEP instants at a time."""
SECOND = timedelta(seconds=1)
POINTS = ("before_fire:20", "after_fire:20", "after_replace:15", "before_fire:3", "after_fire:3")
"""Where the processes are killed, in turn: before and after the swap, and after the cancel of a replaced job."""


def add(store: Store, name: str, **given: object) -> None:
    fields = {"when": "@every 1s", "job": {"command": "true"}} | given
    definition = define_completed(fields, timezone="UTC", settings=settings_of(), cwd="/")
    changing.add(store, name, definition)


class Firers:
    """Three processes that fire schedules, each killed at a step of a fire and started again."""

    def __init__(self, place: Place) -> None:
        self._place, self._points = place, cycle(POINTS)
        self.clock = place.root / "clock"
        self.store = clocked(place.store, self.clock)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.deaths = 0

    def start(self) -> None:
        self._processes = [self._started() for _ in range(3)]

    def start_and_stop(self) -> "subprocess.Popen[bytes]":
        """A process that stops within its first fire."""
        command = [sys.executable, "-m", "e2e.firers", str(self.clock), "stop"]
        process = subprocess.Popen(command, env=self._place.env, cwd=self._place.work)
        self._processes.append(process)
        return process

    def _started(self) -> "subprocess.Popen[bytes]":
        env = {**self._place.env, "QUEUECTL_CRASH_AT": next(self._points)}
        command = [sys.executable, "-m", "e2e.firers", str(self.clock)]
        return subprocess.Popen(command, env=env, cwd=self._place.work)

    def restart_dead(self) -> None:
        for index, process in enumerate(self._processes):
            if process.poll() is not None:
                assert process.returncode == -9, process.returncode
                self.deaths += 1
                self._processes[index] = self._started()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def firers(place: Place) -> Iterator[Firers]:
    place.run("config", "set", "max_retries", "0")
    firers = Firers(place)
    yield firers
    firers.close()


def decided_all(firers: Firers, names: tuple[str, ...], now: datetime) -> bool:
    firers.restart_dead()
    entries = firers.store.read_table("schedules", names)
    return all(datetime.fromisoformat(entries[name].value["next"]) > now for name in names)


def run_and_delete(store: Store, ran: "Counter[str]") -> None:
    """Run the jobs that are due and delete them, so that a second job of an instant would run too."""
    lease = timedelta(minutes=10)
    while jobs := store.claim("w", (), 50, lease):
        ran.update(job.id for job in jobs)
        ended = [
            lifecycle.finish(job, report(now=store.now()), now=store.now(), random_number=0.5) for job in jobs
        ]
        store.save(ended)
        store.purge(Filter(), 100)


class TestG9OncePerInstant:
    @pytest.mark.timeout(180)
    def test_each_of_500_instants_fires_once_while_processes_are_killed_at_each_step(
        self, place: Place, firers: Firers
    ) -> None:
        begin = place.store.now().replace(microsecond=0) - timedelta(hours=1)
        set_clock(firers.clock, begin)
        add(firers.store, "apart", overlap="allow")
        add(firers.store, "last", overlap="replace", job={"command": "true", "hold": True})
        firers.start()
        ran: Counter[str] = Counter()
        for second in range(STEP, INSTANTS + 1, STEP):
            now = begin + second * SECOND
            set_clock(firers.clock, now)
            eventually(lambda now=now: decided_all(firers, ("apart", "last"), now), within=30)
            if second % 20 == 0:
                run_and_delete(place.store, ran)
        run_and_delete(place.store, ran)
        assert ran == Counter(job_id("apart", begin + second * SECOND) for second in range(1, INSTANTS + 1))
        [last] = [job for job in jobs(place.store) if not job.ended]
        assert last.id == job_id("last", begin + INSTANTS * SECOND)
        assert firers.deaths >= 6

    def test_a_process_that_is_stopped_within_a_fire_across_fires_and_a_purge_adds_nothing(
        self, place: Place, firers: Firers
    ) -> None:
        begin = place.store.now().replace(microsecond=0) - timedelta(hours=2)
        set_clock(firers.clock, begin)
        add(firers.store, "s", overlap="allow")
        set_clock(firers.clock, begin + SECOND)
        stopped = firers.start_and_stop()
        eventually(lambda: _state(stopped.pid) == "T", what="the process is stopped")
        ran: Counter[str] = Counter()
        for second in (1, 2, 3600):
            set_clock(firers.clock, begin + second * SECOND)
            while found := due(firers.store):
                firing.fire(firers.store, found)
            run_and_delete(place.store, ran)
        stopped.send_signal(SIGCONT)
        now = begin + 3601 * SECOND
        set_clock(firers.clock, now)
        eventually(lambda: decided_all(firers, ("s",), now), within=30)
        run_and_delete(place.store, ran)
        assert ran.keys() >= set(at("s", begin, 1, 2, 3600, 3601))
        assert set(ran.values()) == {1}

    def test_a_clock_that_is_set_back_fires_nothing_twice(self, place: Place, firers: Firers) -> None:
        begin = place.store.now().replace(microsecond=0)
        set_clock(firers.clock, begin)
        add(firers.store, "s", overlap="allow")
        for moment in (begin + 3 * SECOND, begin - 3600 * SECOND, begin + 4 * SECOND):
            set_clock(firers.clock, moment)
            firing.fire(firers.store, due(firers.store))
        assert ids(place) == at("s", begin, 1, 2, 3, 4)


def test_a_command_sees_its_schedule_and_its_instant(place: Place) -> None:
    place.run("config", "set", "max_retries", "0")
    add(
        place.store,
        "s",
        job={
            "command": "echo $QUEUECTL_SCHEDULE $QUEUECTL_SCHEDULED_FOR $QUEUECTL_LATE",
            "cwd": str(place.work),
        },
    )
    place.start_worker()
    first = eventually(lambda: reading.one(place.store, "s").last, what="a fired instant")
    job = place.until(first.job, "completed")
    changing.remove(place.store, "s")
    shown, late = place.run("logs", job.id).rsplit(" ", 1)
    assert shown == f"s {first.instant:%Y-%m-%dT%H:%M:%SZ}"
    assert int(late) < 10


def test_a_draining_start_fires_what_is_due_and_leaves(place: Place) -> None:
    place.run("config", "set", "max_retries", "0")
    now = place.store.now()
    clock = place.root / "clock"
    set_clock(clock, now - timedelta(minutes=10))
    for name in ("a", "b"):
        add(clocked(place.store, clock), name, when="0 * * * * *", job={"command": "true", "cwd": "/"})
    place.run("worker", "start", "--drain")
    for name in ("a", "b"):
        status = reading.one(place.store, name)
        assert status.last
        assert status.last.state == "completed"
        assert status.schedule.next
        assert status.schedule.next > now


def test_stores_agree_on_an_outage_over_three_instants(place: Place, firers: Firers) -> None:
    """Nobody fires for three instants: within a minute they are in time, later the catch-up policy decides."""
    begin = place.store.now().replace(microsecond=0) - timedelta(hours=1)
    set_clock(firers.clock, begin)
    for policy in ("last", "skip", "all"):
        add(firers.store, policy, when="@every 5m", catchup=policy, overlap="allow")
    add(firers.store, "soon", when="@every 10s", overlap="allow")
    set_clock(firers.clock, begin + 30 * SECOND)
    firing.fire(firers.store, due(firers.store))
    assert [each for each in ids(place) if each.startswith("soon")] == at("soon", begin, 10, 20, 30)
    changing.remove(firers.store, "soon")
    set_clock(firers.clock, begin + timedelta(minutes=17))
    while due(firers.store):
        firing.fire(firers.store, due(firers.store))
    assert [each for each in ids(place) if each.startswith("last")] == at("last", begin, 900)
    assert [each for each in ids(place) if each.startswith("skip")] == []
    assert [each for each in ids(place) if each.startswith("all")] == at("all", begin, 300, 600, 900)
    [decision] = [each.decision for each in reading.history(firers.store, "skip", 20)]
    assert (decision.decision, decision.count) == ("missed", 3)


def test_an_idle_worker_fires_in_time(place: Place) -> None:
    """At the median at most 0.3 s late, and never more than 1.5 s."""
    add(
        place.store,
        "s",
        when="* * * * * *",
        overlap="allow",
        job={"command": "true", "hold": True, "cwd": "/"},
    )
    place.start_worker()
    decisions = eventually(
        lambda: len(found := reading.history(place.store, "s", 20)) > 6 and found,
        within=30,
        what="seven decisions",
    )
    changing.remove(place.store, "s")
    late = sorted(each.decision.decided_at - each.decision.instant for each in decisions[:6])
    if late[3] > timedelta(seconds=0.3) or late[-1] > timedelta(seconds=1.5):
        raise TooSlow(f"the decisions are late by {[each.total_seconds() for each in late]} s")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def due(store: Store) -> list[firing.Upcoming]:
    now = store.now()
    return [each for each in store.upcoming(100) if each.due <= now]


def jobs(store: Store) -> list[Job]:
    return store.find(Filter(), Page(limit=1000)).jobs


def ids(place: Place) -> list[str]:
    return sorted(job.id for job in jobs(place.store))


def at(name: str, begin: datetime, *seconds: int) -> list[str]:
    return [job_id(name, begin + second * SECOND) for second in seconds]
