"""The duty that fires schedules."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from unstarted import Unstarted

from contract.grounds import SteppedClock
from queuectl.domain.query import Filter, Page
from queuectl.service.schedules import changing
from queuectl.service.schedules.changing import define_completed
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.schedules import LEFT_ALONE_FOR, FireSchedules
from service.conftest import settings_of


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
    seconds: float = agent.duty(FireSchedules).due(agent.now)
    return round(seconds - agent.now, 3)


def test_the_duty_looks_once_a_tick_and_sleeps_until_the_first_entry_is_due(unstarted: Unstarted) -> None:
    unstarted.run(FireSchedules)
    assert due(unstarted) == 1
    add(unstarted, "s")
    pass_time(unstarted, 9.75)
    unstarted.run(FireSchedules)
    assert due(unstarted) == 0.25
    pass_time(unstarted, 0.25)
    unstarted.run(FireSchedules)
    assert names(unstarted) == ["s"]
    assert unstarted.parts.claiming._policy.dirty


def test_many_due_entries_are_fired_in_steps(unstarted: Unstarted) -> None:
    for n in range(150):
        add(unstarted, f"s{n}")
    pass_time(unstarted, 10)
    unstarted.run(FireSchedules)
    assert (len(names(unstarted)), due(unstarted)) == (100, 0)
    unstarted.run(FireSchedules)
    assert len(names(unstarted)) == 150


def test_a_worker_that_drains_fires_nothing(unstarted: Unstarted) -> None:
    unstarted.hears("drain")
    assert unstarted.duty(FireSchedules).due(unstarted.now) == NEVER


def test_entries_that_this_worker_does_not_understand_do_not_hide_others(unstarted: Unstarted) -> None:
    now = unstarted.store.now()
    for n in range(20):
        unstarted.store.swap([Swap("schedules", f"new{n}", {"moon": n}, 0, due=now)])
    unstarted.store.swap([Swap("operations", "o", {}, 0, due=now - timedelta(hours=1))])
    add(unstarted, "s")
    pass_time(unstarted, 10)
    unstarted.run(FireSchedules)
    assert names(unstarted) == ["s"]
    unstarted.run(FireSchedules)
    assert due(unstarted) == 1
    assert len(unstarted.duty(FireSchedules)._left_alone) == 20
    pass_time(unstarted, LEFT_ALONE_FOR)
    unstarted.run(FireSchedules)
    assert names(unstarted) == ["s", *["s"] * 6]


def test_a_template_that_is_not_valid_any_more_fails_and_the_schedule_goes_on(unstarted: Unstarted) -> None:
    add(unstarted, "s")
    entry = unstarted.store.read_table("schedules")["s"]
    wrong = {**entry.value, "job": {"command": "true", "colour": "red"}}
    now = unstarted.store.now()
    unstarted.store.swap([Swap("schedules", "s", wrong, entry.version, due=now + timedelta(seconds=10))])
    pass_time(unstarted, 10)
    unstarted.run(FireSchedules)
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
    agent.run(FireSchedules)
    assert len(names(agent)) == 150
    assert agent.duty(FireSchedules).due(agent.now) == NEVER
