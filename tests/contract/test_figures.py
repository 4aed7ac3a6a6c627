"""The figures of workers on every store: written once, merged into hours once, and read without a gap meanwhile."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from contract.grounds import Ground, race
from factories import processing, report
from queuectl.domain import lifecycle
from queuectl.service import figures
from queuectl.service.figures import Writer
from queuectl.store.protocol import Store

WEEK = timedelta(days=7)


def settle(writer: Writer, now: datetime, *, queue: str = "default", count: int = 1) -> None:
    """Count jobs that have completed now."""
    for _ in range(count):
        job = processing(now=now, queue=queue)
        said = report(now=now, started_at=now)
        writer.count(job, lifecycle.finish(job, said, now=now, random_number=0), now)


def sums(store: Store) -> dict[str, int]:
    """Attempts since the beginning, per queue."""
    return {queue: tally.attempts for queue, tally in figures.since_ever(store)}


def found(store: Store, since: datetime, until: datetime) -> dict[str, int]:
    """Attempts of a time, per hour."""
    hours: dict[str, int] = {}
    for hour, _, tally in figures.read(store, since, until).rows:
        hours[hour[-2:]] = hours.get(hour[-2:], 0) + tally.attempts
    return dict(sorted(hours.items()))


@pytest.fixture
def day(store: Store, ground: Ground) -> datetime:
    """The start of a day on which two workers settled jobs in each of four hours."""
    start = ground.clock.now()
    writers = Writer("w1.a"), Writer("w2.b")
    for _ in range(4):
        for writer in writers:
            settle(writer, ground.clock.now(), count=2)
            writer.write(store)
            ground.clock.step(seconds=30)
            settle(writer, ground.clock.now(), queue="mail")
            writer.write(store)
            ground.clock.step(minutes=29, seconds=30)
    return start


@pytest.mark.doubles
def test_old_minutes_become_hours_and_no_number_changes(store: Store, ground: Ground, day: datetime) -> None:
    before = found(store, day, ground.clock.now())
    assert before == {"12": 6, "13": 6, "14": 6, "15": 6}
    assert sums(store) == {"default": 16, "mail": 8}
    figures.merge(store, WEEK)
    assert {key[11:13] for key in store.read_table("figures")} == {"15"}
    assert set(store.read_table("hours")) == {"total", "2026-11-22T12", "2026-11-22T13", "2026-11-22T14"}
    assert found(store, day, ground.clock.now()) == before
    assert sums(store) == {"default": 16, "mail": 8}


def test_the_last_hour_is_read_by_the_minute(store: Store, ground: Ground, day: datetime) -> None:
    figures.merge(store, WEEK)
    now = ground.clock.now()
    assert found(store, now - timedelta(minutes=30), now) == {"15": 3}
    read = figures.read(store, now - timedelta(minutes=30), now)
    assert (read.since, read.until) == (now - timedelta(minutes=30), now)


def test_a_merged_hour_is_read_whole(store: Store, ground: Ground, day: datetime) -> None:
    figures.merge(store, WEEK)
    read = figures.read(store, day + timedelta(minutes=80), day + timedelta(minutes=130))
    assert (read.since, read.until) == (day + timedelta(hours=1), day + timedelta(hours=3))
    assert {hour[-2:] for hour, _, _ in read.rows} == {"13", "14"}


def test_the_sums_stay_when_hours_are_deleted(store: Store, ground: Ground, day: datetime) -> None:
    figures.merge(store, WEEK)
    ground.clock.step(days=8)
    figures.merge(store, WEEK)
    assert store.read_table("figures") == {}
    assert set(store.read_table("hours")) == {"total"}
    assert sums(store) == {"default": 16, "mail": 8}
    settle(writer := Writer("w3.c"), ground.clock.now())
    writer.write(store)
    assert sums(store) == {"default": 17, "mail": 8}


@pytest.mark.doubles
def test_several_merge_at_once(store: Store, other: Store, day: datetime) -> None:
    race(*[lambda handle=handle: figures.merge(handle, WEEK) for handle in (store, other) * 2])
    assert sums(store) == {"default": 16, "mail": 8}
    assert found(store, day, day + timedelta(hours=4)) == {"12": 6, "13": 6, "14": 6, "15": 6}


class Stepped:
    """A store that runs a function after each call of a verb that writes."""

    def __init__(self, store: Store, then: Callable[[], None]) -> None:
        self._store, self._then = store, then

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._store, verb)

        def call(*args: Any, **options: Any) -> Any:
            answer = real(*args, **options)
            if verb == "swap":
                self._then()
            return answer

        return call


def test_a_reader_finds_the_same_numbers_after_each_step_of_a_merge(
    store: Store, other: Store, ground: Ground, day: datetime
) -> None:
    seen = list[tuple[dict[str, int], dict[str, int]]]()
    end = ground.clock.now()
    stepped: Any = Stepped(store, lambda: seen.append((found(other, day, end), sums(other))))
    figures.merge(stepped, WEEK)
    assert len(seen) >= 9
    assert {str(each) for each in seen} == {str((found(other, day, end), {"default": 16, "mail": 8}))}


class Died(Exception):
    """Stands for the end of the process."""


class Death:
    """Raises Died at the last of these steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        self._left -= 1
        if not self._left:
            raise Died


def test_a_merge_that_dies_after_each_step_is_completed_by_the_next_one(
    store: Store, ground: Ground, day: datetime
) -> None:
    for steps in range(1, 9):
        dying: Any = Stepped(store, Death(steps).step)
        with contextlib.suppress(Died):
            figures.merge(dying, WEEK)
        assert sums(store) == {"default": 16, "mail": 8}
    figures.merge(store, WEEK)
    assert found(store, day, ground.clock.now()) == {"12": 6, "13": 6, "14": 6, "15": 6}
