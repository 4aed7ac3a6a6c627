"""The duty for due entries: it fires schedules and carries on operations."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from unstarted import Unstarted

from contract.grounds import SteppedClock
from queuectl.domain.operation import Request
from queuectl.domain.query import Filter, Page
from queuectl.service import carrying, operations, paging
from queuectl.service.schedules import changing
from queuectl.service.schedules.changing import define_completed
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap
from queuectl.worker.agent.due_entries import LEFT_ALONE_FOR, DueEntries
from queuectl.worker.agent.duty import NEVER
from service.conftest import settings_of
from service.scenes import put


def add(agent: Unstarted, name: str, **given: Any) -> None:
    fields = {"when": "@every 10s", "overlap": "allow", "job": {"command": "true"}} | given
    definition = define_completed(fields, timezone="UTC", settings=settings_of(), cwd="/")
    changing.add(agent.store, name, definition)


def pass_time(agent: Unstarted, seconds: float) -> None:
    """Let both clocks go on."""
    agent.now += seconds
    agent.store._clock.step(seconds=seconds)  # type: ignore[attr-defined]


def names(agent: Unstarted) -> list[str]:
    """The schedules of the jobs, each once for each job."""
    jobs = agent.store.find(Filter(), Page(limit=1000)).jobs
    return sorted(job.id.partition(":")[0] for job in jobs)


def due(agent: Unstarted) -> float:
    """Seconds until the duty runs again."""
    seconds: float = agent.duty(DueEntries).due(agent.now)
    return round(seconds - agent.now, 3)


def test_the_duty_looks_once_a_tick_and_sleeps_until_the_first_entry_is_due(unstarted: Unstarted) -> None:
    unstarted.run(DueEntries)
    assert due(unstarted) == 1
    add(unstarted, "s")
    pass_time(unstarted, 9.75)
    unstarted.run(DueEntries)
    assert due(unstarted) == 0.25
    pass_time(unstarted, 0.25)
    unstarted.run(DueEntries)
    assert names(unstarted) == ["s"]
    assert unstarted.parts.claiming._policy.dirty


def test_many_due_entries_are_fired_in_steps(unstarted: Unstarted) -> None:
    for n in range(150):
        add(unstarted, f"s{n}")
    pass_time(unstarted, 10)
    unstarted.run(DueEntries)
    assert (len(names(unstarted)), due(unstarted)) == (100, 0)
    unstarted.run(DueEntries)
    assert len(names(unstarted)) == 150


def test_a_worker_that_drains_fires_nothing(unstarted: Unstarted) -> None:
    unstarted.hears("drain")
    assert unstarted.duty(DueEntries).due(unstarted.now) == NEVER


def test_entries_that_this_worker_does_not_understand_do_not_hide_others(unstarted: Unstarted) -> None:
    now = unstarted.store.now()
    for n in range(20):
        unstarted.store.swap([Swap("schedules", f"new{n}", {"moon": n}, 0, due=now)])
    unstarted.store.swap([Swap("operations", "o", {}, 0, due=now - timedelta(hours=1))])
    add(unstarted, "s")
    pass_time(unstarted, 10)
    unstarted.run(DueEntries)
    assert names(unstarted) == ["s"]
    unstarted.run(DueEntries)
    assert due(unstarted) == 1
    assert len(unstarted.duty(DueEntries)._left_alone) == 21
    pass_time(unstarted, LEFT_ALONE_FOR)
    unstarted.run(DueEntries)
    assert names(unstarted) == ["s", *["s"] * 6]


def test_a_template_that_is_not_valid_any_more_fails_and_the_schedule_goes_on(unstarted: Unstarted) -> None:
    add(unstarted, "s")
    entry = unstarted.store.read_table("schedules")["s"]
    wrong = {**entry.value, "job": {"command": "true", "colour": "red"}}
    now = unstarted.store.now()
    unstarted.store.swap([Swap("schedules", "s", wrong, entry.version, due=now + timedelta(seconds=10))])
    pass_time(unstarted, 10)
    unstarted.run(DueEntries)
    [decision] = unstarted.store.read_table("schedules")["s"].value["decisions"]
    assert decision["decision"] == "failed"
    assert "colour" in decision["reason"]
    assert [each.due for each in unstarted.store.upcoming(1)] == [now + timedelta(seconds=20)]
    assert "colour" in unstarted.said()[0]


def test_a_draining_start_fires_what_is_due_and_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(SteppedClock())
    agent = Unstarted(tmp_path, monkeypatch, store, config={"drain": True})
    for n in range(150):
        add(agent, f"s{n}")
    pass_time(agent, 10)
    agent.run(DueEntries)
    assert len(names(agent)) == 150
    assert agent.duty(DueEntries).due(agent.now) == NEVER


def operate(agent: Unstarted, id: str, count: int = 3) -> None:
    for n in range(count):
        put(agent.store, f"{id}{n}")
    request = Request(verb="hold", where=f"id:{id}*")
    operations.operate(agent.store, id, request, by="ada")


def changed(agent: Unstarted) -> dict[str, tuple[str, int]]:
    return {each.id: (each.state, each.tally.changed) for each in operations.all_of(agent.store)}


def test_one_step_of_one_operation_is_taken_before_the_other_duties_run(
    unstarted: Unstarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "BATCH", 2)
    operate(unstarted, "a")
    pass_time(unstarted, 1)
    operate(unstarted, "b")
    unstarted.run(DueEntries)
    assert (changed(unstarted), due(unstarted)) == ({"b": ("running", 0), "a": ("running", 2)}, 0)
    for _ in range(5):
        unstarted.run(DueEntries)
    assert changed(unstarted) == {"b": ("done", 3), "a": ("done", 3)}
    assert due(unstarted) == 1


def test_a_worker_that_drains_takes_no_step(
    unstarted: Unstarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operate(unstarted, "a")
    unstarted.hears("drain")
    assert unstarted.duty(DueEntries).due(unstarted.now) == NEVER
    draining = Unstarted(tmp_path, monkeypatch, unstarted.store, config={"drain": True})
    draining.run(DueEntries)
    assert changed(draining) == {"a": ("running", 0)}


def test_an_operation_that_this_worker_does_not_understand_is_left_alone(unstarted: Unstarted) -> None:
    now = unstarted.store.now()
    unstarted.store.swap([Swap("operations", "new", {"moon": 1}, 0, due=now - timedelta(hours=1))])
    operate(unstarted, "a")
    add(unstarted, "s")
    pass_time(unstarted, 10)
    for _ in range(3):
        unstarted.run(DueEntries)
    assert (changed(unstarted), names(unstarted).count("s")) == ({"a": ("done", 3)}, 1)


def test_an_operation_that_another_carries_is_passed_over_until_its_lease_ends(unstarted: Unstarted) -> None:
    operate(unstarted, "a")
    carrying._take(unstarted.store, operations.show(unstarted.store, "a"), 1)
    unstarted.run(DueEntries)
    assert (changed(unstarted), due(unstarted)) == ({"a": ("running", 0)}, 1)
    pass_time(unstarted, carrying.LEASE.total_seconds())
    unstarted.run(DueEntries)
    assert changed(unstarted) == {"a": ("done", 3)}
