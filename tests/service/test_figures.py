"""The writer of figures: one entry for each minute, lost replies, an entry that was merged meanwhile, lateness."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from contract.grounds import SteppedClock
from contract.test_figures import settle, sums
from factories import NOW, processing, report
from queuectl.domain import lifecycle
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service import figures
from queuectl.service.figures import Writer
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap
from service.conftest import Overtaken

WEEK = timedelta(days=7)


def entries(store: MemoryStore) -> dict[str, int]:
    """The attempts and the version of each entry of a minute."""
    found = {}
    for key, entry in store.read_table("figures").items():
        found[key] = sum(tally.attempts for _, tally in figures.rows_of(entry.value)) * 100 + entry.version
    return found


@pytest.fixture
def writer() -> Writer:
    return Writer("w1.a")


def test_a_minute_has_one_entry_that_is_written_again(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    for _ in range(3):
        settle(writer, clock.now())
        writer.write(store)
        clock.step(seconds=25)
    assert entries(store) == {"2026-11-22T12:00/w1.a": 303}


def test_what_ends_across_an_hour_is_counted_in_its_minute(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    clock.step(minutes=59, seconds=55)
    settle(writer, clock.now())
    clock.step(seconds=10)
    settle(writer, clock.now(), count=2)
    writer.write(store)
    assert entries(store) == {"2026-11-22T12:59/w1.a": 101, "2026-11-22T13:00/w1.a": 201}
    assert not writer.is_waiting


def test_nothing_is_written_when_nothing_ended(overtaken: Overtaken, writer: Writer) -> None:
    writer.write(overtaken)  # type: ignore[arg-type]
    assert overtaken.calls == {}


def test_a_lost_reply_counts_once(store: MemoryStore, overtaken: Overtaken, writer: Writer) -> None:
    def lose() -> None:
        raise OutcomeUnknown("the reply was lost")

    overtaken.after("swap", lose)
    settle(writer, NOW)
    handle: Any = overtaken
    with pytest.raises(OutcomeUnknown):
        writer.write(handle)
    assert writer.is_waiting
    settle(writer, NOW)
    writer.write(handle)
    assert sums(store) == {"default": 2}
    assert not writer.is_waiting


def test_a_store_that_is_away_loses_nothing(store: MemoryStore, overtaken: Overtaken, writer: Writer) -> None:
    def fail() -> None:
        raise StoreUnavailable("away")

    overtaken.before("swap", fail)
    settle(writer, NOW)
    handle: Any = overtaken
    with pytest.raises(StoreUnavailable):
        writer.write(handle)
    writer.write(handle)
    assert sums(store) == {"default": 1}


def test_figures_whose_entry_was_merged_count_in_the_current_minute(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    settle(writer, clock.now())
    writer.write(store)
    settle(writer, clock.now())  # the agent is suspended here, while others merge the hour
    clock.step(minutes=20)
    store.swap([Swap("figures", "2026-11-22T12:00/w1.a", None, 1)])
    writer.write(store)
    writer.write(store)
    assert entries(store) == {"2026-11-22T12:20/w1.a": 101}


def test_figures_that_are_late_count_in_the_current_minute(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    settle(writer, clock.now())
    clock.step(hours=3)
    figures.merge(store, WEEK)
    writer.write(store)
    assert entries(store) == {"2026-11-22T15:00/w1.a": 101}
    assert sums(store) == {"default": 1}


def test_a_recovered_claim_that_never_started_is_not_counted(writer: Writer) -> None:
    lost = lifecycle.lose(processing(), report("lost", now=NOW), now=NOW)
    again = lifecycle.claim(lost, attempt_id="b" * 32, worker="w2", lease=timedelta(seconds=1), now=NOW)
    later = NOW + timedelta(seconds=1)
    writer.count_recovered(lifecycle.give_back(again, now=later))
    assert not writer.is_waiting
    writer.count_recovered(lifecycle.lose(again, report("lost", now=later), now=later))
    assert writer.is_waiting


def test_more_than_a_thousand_queues_share_a_sum(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    for n in range(600):
        settle(writer, clock.now(), queue=f"a{n}")
    writer.write(store)
    clock.step(minutes=1)
    for n in range(600):
        settle(writer, clock.now(), queue=f"b{n}")
    writer.write(store)
    before = sums(store)
    assert len(before) == 1001
    assert before["other"] == 200
    clock.step(hours=3)
    figures.merge(store, WEEK)
    assert list(sums(store).items()) == list(before.items())


def test_a_damaged_entry_does_not_stop_the_merge(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    settle(writer, clock.now())
    writer.write(store)
    store.swap([Swap("figures", "2026-11-22T12:30/w9.z", {"rows": 7}, 0)])
    clock.step(hours=3)
    figures.merge(store, WEEK)
    assert store.read_table("figures") == {}
    assert sums(store) == {"default": 1}


def test_hours_are_deleted_after_a_long_time_without_a_worker(
    store: MemoryStore, clock: SteppedClock, writer: Writer
) -> None:
    start: datetime = clock.now()
    for _ in range(3):
        settle(writer, clock.now())
        writer.write(store)
        clock.step(hours=1)
    clock.step(days=400)
    figures.merge(store, WEEK)
    assert set(store.read_table("hours")) == {"total"}
    assert figures.read(store, start, clock.now()).rows == []
