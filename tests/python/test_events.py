"""Events from Python: those of the past and as they happen, in both kinds of queues, directly and through a server."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import islice

import pytest

from e2e.databases import Database
from python.conftest import served
from queuectl import AsyncQueue, Event, InvalidInput, Queue
from queuectl.domain import event as domain

KEPT = ("sqlite", "http")
"""The kinds of stores whose events are read here. The contract of events is tested on each store."""


@pytest.fixture(scope="module", params=KEPT)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, database: Database) -> Iterator[str | None]:
    with ExitStack() as stack:
        yield stack.enter_context(served(database)) if kind == "http" else None


@pytest.fixture
def queue(url: str | None) -> Iterator[Queue]:
    with Queue(url, token=url and "admin") as queue:
        yield queue


def jobs(events: Iterator[Event], count: int) -> list[str]:
    return [event.job for event in islice(events, count)]


def test_events_of_the_past(queue: Queue) -> None:
    before = list(queue.events())
    queue.enqueue("true", id="past-a", queue="past", batch="b")
    queue.enqueue("true", id="past-b", queue="past")
    queue.cancel("past-a")
    found = list(queue.events(where="queue:past"))
    assert [(each.event, each.job) for each in found] == [
        ("job.enqueued", "past-a"),
        ("job.enqueued", "past-b"),
        ("job.cancelled", "past-a"),
    ]
    assert (found[2].state, found[2].before, found[0].batch, found[0].gap) == (
        "cancelled",
        "pending",
        "b",
        False,
    )
    [last] = queue.events(types=["dead", "job.cancelled"], where="queue:past")
    assert last == found[2]
    everything = [*before, *found]
    assert list(queue.events(since=found[0])) == list(queue.events(since=found[0].id)) == found[1:]
    assert list(queue.events(since=timedelta(hours=1))) == list(queue.events(since="1h")) == everything
    assert list(queue.events(since=found[0].at))[-3:] == found


def test_the_door_of_a_change(queue: Queue, kind: str) -> None:
    queue.enqueue("true", id="door", queue="door")
    [found] = queue.events(where="queue:door")
    assert found.via == ("http" if kind == "http" else "python")
    assert found.by is not None
    assert (found.by == "token:admin") == (kind == "http")


def test_follow(queue: Queue) -> None:
    queue.enqueue("true", id="before")
    last = list(queue.events())[-1]
    behind = queue.events(since=last, follow=True)
    for n in range(3):
        queue.enqueue("true", id=f"follow-{n}")
        assert next(behind).job == f"follow-{n}"
    behind.close()  # type: ignore[attr-defined]


def test_deleted_events_are_a_gap(queue: Queue, database: Database) -> None:
    first = queue.enqueue("true", id="gap-0")
    cursor = next(event for event in queue.events() if event.job == first.id)
    for n in range(1, 4):
        queue.enqueue("true", id=f"gap-{n}")
    store = database.open()
    store.trim_events(store.now() - timedelta(days=9), 2, 10_000)
    store.close()
    assert [(each.job, each.gap) for each in queue.events(since=cursor)] == [
        ("gap-2", True),
        ("gap-3", False),
    ]
    assert next(queue.events(since=cursor, follow=True)).gap


@pytest.mark.parametrize(
    "given", [{"types": "nothing"}, {"where": "nonsense"}, {"since": "soon"}, {"since": "1-2"}]
)
def test_bad_input(queue: Queue, given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        list(queue.events(**given))  # type: ignore[arg-type]


def test_asynchronous(url: str | None) -> None:
    async def read() -> None:
        async with AsyncQueue(url, token=url and "admin") as queue:
            await queue.enqueue("true", id="async-0", queue="async")
            found = [event async for event in queue.events(where="queue:async")]
            assert [event.job for event in found] == ["async-0"]
            followed = queue.events(since=found[0], follow=True)
            for n in range(1, 4):
                await queue.enqueue("true", id=f"async-{n}", queue="async")
                assert (await anext(followed)).job == f"async-{n}"
            waiting = asyncio.ensure_future(anext(followed))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(read())


def test_an_event_has_the_fields_of_the_document() -> None:
    assert set(Event.__struct_fields__) == {*domain.Event.__struct_fields__, "id", "gap"}


def test_a_missing_store_has_no_events(home: object) -> None:
    with Queue() as queue:
        assert list(queue.events()) == []
        queue.enqueue("true")
        assert [event.event for event in queue.events()] == ["job.enqueued"]
