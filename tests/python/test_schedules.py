"""`Queue.schedules` and `AsyncQueue.schedules` on SQLite; `test_stores.py` has all stores."""

import asyncio
import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from python.test_administration import names, printed
from queuectl import AsyncQueue, Conflict, InvalidInput, Queue
from queuectl.python.async_schedules import AsyncSchedules
from queuectl.python.schedules import Schedules


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")}


@pytest.mark.parametrize("name", public(Schedules))
def test_the_awaited_methods_have_the_same_signatures(name: str) -> None:
    ours, theirs = getattr(AsyncSchedules, name), getattr(Schedules, name)
    assert public(AsyncSchedules).keys() == public(Schedules).keys()
    assert (ours.__doc__, inspect.signature(ours)) == (theirs.__doc__, inspect.signature(theirs))
    assert inspect.iscoroutinefunction(ours)


def test_a_schedule_has_the_names_of_the_json_of_its_command(queue: Queue) -> None:
    added = queue.schedules.add("nightly", "@daily", "true")
    shown = printed("schedule", "show", "nightly")
    assert names({"schedule": msgspec.to_builtins(added)}) == names(shown)


def test_mistakes(queue: Queue) -> None:
    every = queue.schedules
    every.add("nightly", "@daily", "true")
    with pytest.raises(Conflict):
        every.add("nightly", "@hourly", "true")
    for act in (
        lambda: every.add("s", "61 * * * *", "true"),
        lambda: every.add("s", "@daily", "true", timezone="Mars/Base"),
        lambda: every.add("s", "@daily", "true", colour="red"),  # type: ignore[call-arg]
        lambda: every.add("s", "@daily", "true", start=datetime(2026, 1, 1)),
        lambda: every.edit("nightly"),
        lambda: every.apply("[schedule"),
    ):
        with pytest.raises(InvalidInput):
            act()
    assert [each.name for each in every.list()] == ["nightly"]


def test_a_preview_opens_no_store(home: Path) -> None:
    with Queue() as queue:
        found = queue.schedules.preview(
            "30 2 * * *", timezone="Europe/Berlin", start="2026-03-28T12:00:00Z", count=1
        )
        assert found.instants == [datetime(2026, 3, 29, 1, tzinfo=UTC)]
    assert not list(home.rglob("*.db"))


def test_the_schedules_of_an_async_queue(home: Path) -> None:
    async def main() -> None:
        async with AsyncQueue() as queue:
            added = await queue.schedules.add("nightly", "@daily", "true", queue="reports")
            assert await queue.schedules.list() == [await queue.schedules.show("nightly")]
            assert added.job["queue"] == "reports"
            job = await queue.schedules.run("nightly")
            assert await queue.show(job) == job

    asyncio.run(main())
