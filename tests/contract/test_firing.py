"""Schedules fire on each store: the overlap and catch-up policies, a change of clocks, suspended workers, purges."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from contract.grounds import Ground
from factories import NOW, report
from queuectl.domain import lifecycle, zone
from queuectl.domain.job import State
from queuectl.domain.query import Filter, Page
from queuectl.domain.schedule import job_id
from queuectl.domain.schedule_file import ScheduleFile
from queuectl.errors import InvalidInput
from queuectl.service import firing
from queuectl.service.schedules import changing, files, reading
from queuectl.service.schedules.changing import define_completed
from queuectl.service.schedules.problems import problems
from queuectl.store.protocol import Store, Upcoming
from service.conftest import settings_of

SECOND = timedelta(seconds=1)


def add(store: Store, name: str = "s", **given: Any) -> None:
    fields = {"when": "@every 10s", "job": {"command": "true"}} | given
    changing.add(store, name, define_completed(fields, timezone="UTC", settings=settings_of(), cwd="/"))


def due(store: Store) -> list[Upcoming]:
    now = store.now()
    return [each for each in store.upcoming(100) if each.due <= now]


def fire(ground: Ground, store: Store, **duration: float) -> None:
    """Let time pass, and fire what is due then."""
    ground.clock.step(**duration)
    while found := due(store):
        firing.fire(store, found)


def states(store: Store) -> dict[str, State]:
    """The states of the jobs by their instants, in seconds since the beginning."""
    jobs = store.find(Filter(), Page(limit=1000)).jobs
    return {_seconds(job.spec.instant): job.state for job in sorted(jobs, key=lambda job: job.id)}


def _seconds(instant: datetime | None) -> str:
    assert instant is not None
    return f"{(instant - NOW) // SECOND}"


def run(store: Store, limit: int = 100) -> list[str]:
    """Run the jobs that are due to their end; their ids."""
    jobs = store.claim("w", (), limit, timedelta(minutes=10))
    now = store.now()
    ended = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in jobs]
    assert all(answer.status == "accepted" for answer in store.save(ended))
    return [job.id for job in jobs]


class TestOverlap:
    def test_skip(self, ground: Ground, store: Store) -> None:
        add(store)
        for _ in range(2):
            fire(ground, store, seconds=10)
        run(store)
        fire(ground, store, seconds=10)
        assert states(store) == {"10": "completed", "30": "pending"}

    def test_queue(self, ground: Ground, store: Store) -> None:
        add(store, overlap="queue")
        for _ in range(3):
            fire(ground, store, seconds=10)
        assert states(store) == {"10": "pending", "20": "blocked"}

    def test_replace(self, ground: Ground, store: Store) -> None:
        add(store, overlap="replace")
        for _ in range(3):
            fire(ground, store, seconds=10)
        assert states(store) == {"10": "cancelled", "20": "cancelled", "30": "pending"}
        assert store.get([job_id("s", NOW + 10 * SECOND)])[job_id("s", NOW + 10 * SECOND)].cause == "overlap"

    def test_a_running_job_is_replaced_after_its_end(self, ground: Ground, store: Store) -> None:
        add(store, overlap="replace")
        fire(ground, store, seconds=10)
        [running] = store.claim("w", (), 1, timedelta(minutes=10))
        fire(ground, store, seconds=10)
        assert states(store) == {"10": "processing", "20": "blocked"}
        asked = store.get([running.id])[running.id].cancel_requested
        assert asked
        assert (asked.by, asked.cause) == ("schedule s", "overlap")

    def test_allow(self, ground: Ground, store: Store) -> None:
        add(store, overlap="allow")
        fire(ground, store, seconds=30)
        assert states(store) == {"10": "pending", "20": "pending", "30": "pending"}


class TestCatchUp:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("last", {"900": "pending"}),
            ("skip", {}),
            ("all", {"300": "pending", "600": "blocked", "900": "blocked"}),
        ],
    )
    def test_after_an_outage_over_three_instants(
        self, ground: Ground, store: Store, policy: str, expected: dict[str, State]
    ) -> None:
        add(store, when="@every 5m", catchup=policy)
        fire(ground, store, minutes=17)
        assert states(store) == expected
        newest = reading.history(store, "s", 1)[0].decision
        assert newest.decision == ("missed" if policy == "skip" else "fired")


def test_a_weekend_with_a_change_of_clocks(ground: Ground, store: Store) -> None:
    """Berlin, 28 to 30 March 2026: 02:00 to 03:00 does not exist on the 29th.

    The 30th begins with 02:00.
    """
    start = datetime(2026, 3, 28, tzinfo=UTC)
    ground.clock.step(seconds=(start - ground.clock.now()).total_seconds())
    berlin = {"timezone": "Europe/Berlin", "overlap": "allow"}
    add(store, "fixed", when="30 2 * * *", **berlin)
    add(store, "often", when="*/30 2 * * *", **berlin)
    add(store, "hours", when="@every 6h", **berlin)
    for _ in range(48 * 12):
        fire(ground, store, minutes=5)
    found = Counter(job.spec.schedule for job in store.find(Filter(), Page(limit=1000)).jobs)
    assert found == {"fixed": 2, "often": 3, "hours": 8}
    fixed = [each.decision.instant for each in reading.history(store, "fixed", 20)]
    assert fixed == [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 28, 1, 30, tzinfo=UTC)]


@pytest.mark.doubles
def test_a_worker_that_was_suspended_across_fires_and_a_purge_adds_nothing(
    ground: Ground, store: Store, other: Store
) -> None:
    add(store)
    ground.clock.step(seconds=10)
    suspended = due(other)
    fire(ground, store)
    assert len(run(store)) == 1
    fire(ground, store, minutes=60)
    run(store)
    store.purge(Filter(), 100)
    assert firing.fire(other, suspended).decisions == []
    assert states(store) == {}


def test_a_schedule_that_is_edited_while_it_fires_keeps_the_edit_and_fires_once(
    ground: Ground, store: Store, other: Store
) -> None:
    add(store)
    ground.clock.step(seconds=10)
    seen = due(other)
    changing.edit(store, "s", {"overlap": "allow"}, {"priority": 7})
    assert firing.fire(other, seen).decisions == []
    fire(ground, store)
    assert reading.one(store, "s").schedule.overlap == "allow"
    [job] = store.find(Filter(), Page()).jobs
    assert (job.priority, job.spec.instant) == (7, NOW + 10 * SECOND)


def test_a_schedule_that_is_removed_and_added_again_in_the_same_second_fires_no_instant_twice(
    ground: Ground, store: Store
) -> None:
    add(store, when="* * * * * *", overlap="allow")
    fire(ground, store, seconds=1)
    run(store)
    store.purge(Filter(), 100)
    changing.remove(store, "s")
    add(store, when="* * * * * *", overlap="allow")
    fire(ground, store)
    assert states(store) == {}
    fire(ground, store, seconds=1)
    assert states(store) == {"2": "pending"}


def test_a_host_without_the_time_zone_leaves_a_schedule_to_others(
    ground: Ground, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "there", timezone="America/Santiago")
    add(store, "here")
    ground.clock.step(seconds=10)
    with monkeypatch.context() as patch:
        patch.setattr(zone, "zone_named", _without("America/Santiago"))
        fired = firing.fire(store, due(store))
        assert [each.key for each in fired.left_alone] == ["there"]
        assert [name for name, _ in fired.decisions] == ["here"]
        status = reading.one(store, "there")
        assert (status.description, status.problem) == (None, "timezone: it is not known here")
        [line] = problems(store.read_table("schedules"), store.now() + timedelta(minutes=2))[-1:]
        assert "there is late" in line.text
    assert [name for name, _ in firing.fire(store, due(store)).decisions] == ["there"]


def _without(missing: str) -> Callable[[str], tzinfo]:
    known = zone.zone_named

    def named(name: str) -> tzinfo:
        if name == missing:
            raise InvalidInput("timezone: it is not known here")
        return known(name)

    return named


@pytest.mark.doubles
def test_two_handles_that_fire_at_once_add_each_job_once(ground: Ground, store: Store, other: Store) -> None:
    for n in range(20):
        add(store, f"s{n}")
    ground.clock.step(seconds=10)
    first, second = due(store), due(other)
    fired = [firing.fire(store, first).jobs, firing.fire(other, second).jobs]
    assert fired == [20, 0]
    assert len(store.find(Filter(), Page(limit=100)).jobs) == 20


@pytest.mark.proof
def test_a_file_with_a_thousand_schedules_is_applied_and_applied_again(store: Store) -> None:
    tables = {f"s{n}": {"when": f"{n % 60} {n % 24} * * *", "command": f"echo {n}"} for n in range(1000)}

    def file(**changed: Any) -> ScheduleFile:
        document = {"owner": "ops", "schedule": tables | changed}
        return files.completed_file(document, timezone="UTC", settings=settings_of(), cwd="/")

    assert len(files.apply(store, file(), by="me").added) == 1000
    assert len(files.apply(store, file(), by="me").unchanged) == 1000
    changed = files.apply(store, file(s7={"when": "@daily", "command": "echo 7"}), by="me")
    assert (list(changed.changed), len(changed.unchanged)) == (["s7"], 999)
    assert len(store.upcoming(2000)) == 1000
