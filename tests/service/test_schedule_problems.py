"""Schedules that need a person: what `status` and `doctor` report."""

from contract.grounds import SteppedClock
from factories import NOW
from queuectl.service.attention import attention
from queuectl.service.explain import explain
from queuectl.service.schedules import changing
from queuectl.service.status import status
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap
from service.conftest import settings_of
from service.scenes import get
from service.test_schedules import add, definition, fire


def reports(store: MemoryStore) -> list[str]:
    return [thing.text for thing in attention(store, status(store, settings_of())) if thing.fault]


def test_a_schedule_that_nobody_fires_is_late(store: MemoryStore, clock: SteppedClock) -> None:
    add(store, "s", definition())
    clock.step(seconds=65)
    assert reports(store) == []
    clock.step(seconds=10)
    assert reports(store) == ["schedule s is late: it is due for 65s, and no worker has fired it"]
    changing.pause(store, "s", by="eve")
    assert reports(store) == []


def test_a_failed_instant_is_reported_until_the_next_one(store: MemoryStore, clock: SteppedClock) -> None:
    add(store, "s", definition())
    entry = store.read_table("schedules")["s"]
    store.swap([Swap("schedules", "s", {**entry.value, "job": {"command": ""}}, 1, due=NOW)])
    clock.step(seconds=10)
    fire(store)
    [text] = reports(store)
    assert text.startswith("schedule s failed: job: ")
    changing.edit(store, "s", {}, {"command": "true"})
    clock.step(seconds=10)
    fire(store)
    assert reports(store) == ["no live worker serves queue default, and 1 job has waited for 0s"]


def test_an_unknown_zone_and_an_unreadable_entry_are_reported(store: MemoryStore) -> None:
    add(store, "s", definition())
    entry = store.read_table("schedules")["s"]
    store.swap([Swap("schedules", "s", {**entry.value, "timezone": "Mars/Base"}, 1)])
    store.swap([Swap("schedules", "t", {"moon": 1}, 0)])
    assert [text[:35] for text in reports(store)] == [
        "schedule s has the time zone Mars/B",
        "schedule t cannot be read: it is da",
    ]


def test_many_problems_are_counted(store: MemoryStore) -> None:
    for n in range(8):
        store.swap([Swap("schedules", f"t{n}", {"moon": 1}, 0)])
    assert reports(store)[5:] == ["and 3 more problems of schedules"]


def test_a_removed_schedule_is_no_problem(store: MemoryStore, clock: SteppedClock) -> None:
    add(store, "s", definition())
    changing.remove(store, "s")
    clock.step(hours=30)
    assert reports(store) == []


def test_the_explanation_of_a_job_names_its_schedule(store: MemoryStore) -> None:
    add(store, "s", definition())
    job = get(store, changing.run(store, "s", f"{1:026x}"))
    assert "schedule s added it for 2026" in " ".join(explain(store, settings_of(), job).why)
