"""Operations from Python: requested, read, awaited and stopped."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from e2e.databases import SqliteDatabase
from python.conftest import served
from queuectl import AsyncQueue, Conflict, InvalidInput, NotFound, Queue


@pytest.fixture
def some(queue: Queue) -> Queue:
    for id, name in (("a", "mail"), ("b", "mail"), ("c", "web")):
        queue.enqueue(f"echo {id}", id=id, queue=name)
    return queue


def test_an_operation_is_stored_and_waits_for_a_worker(some: Queue) -> None:
    run_at = datetime(2030, 1, 1, tzinfo=UTC)
    stored = some.operate("edit", "queue:mail", args={"priority": 3, "run_at": run_at}, id="op", limit=1)
    assert (stored.id, stored.state, stored.limit, stored.matched) == ("op", "running", 1, 0)
    assert stored.args == {"priority": 3, "run_at": "2030-01-01T00:00:00.000000Z"}
    assert some.operate("edit", "queue:mail", args=stored.args, id="op", limit=1) == stored
    assert some.operation(stored) == some.operation("op", wait=0.1) == stored
    assert some.operations() == [stored]


def test_an_operation_is_stopped(some: Queue) -> None:
    stored = some.operate("hold", "queue:mail")
    assert some.stop_operation(stored).state == some.stop_operation(stored.id).state == "stopped"
    assert some.show("a").state == "pending"


def test_wrong_requests_are_refused(some: Queue) -> None:
    some.operate("hold", "queue:mail", id="op")
    with pytest.raises(Conflict, match="another content"):
        some.operate("hold", "queue:web", id="op")
    with pytest.raises(Conflict, match="2 jobs match, not 3"):
        some.operate("hold", "queue:mail", expect=3)
    with pytest.raises(InvalidInput, match="no field 'forse'"):
        some.operate("retry", "queue:mail", args={"forse": True})
    with pytest.raises(NotFound):
        some.operation("nobody")


def test_a_server_carries_on_the_operation(home: Path) -> None:
    async def main(url: str) -> None:
        async with AsyncQueue(url, token="admin") as queue:
            job = await queue.enqueue("true", hold=True)
            begun = await queue.operate("cancel", "state:held", args={"reason": "over"})
            ended = await queue.operation(begun, wait="1m")
            assert (ended.state, ended.changed, ended.by) == ("done", 1, "token:admin")
            assert (await queue.show(job)).state == "cancelled"
            assert await queue.operations() == [ended]
            assert await queue.stop_operation(ended) == ended

    with served(SqliteDatabase(home / "data")) as url:
        asyncio.run(main(url))
