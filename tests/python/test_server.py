"""`Queue` and `AsyncQueue` through a server: tokens, errors, and what does not work there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.databases import SqliteDatabase
from python.conftest import lose_worker, served
from queuectl import AsyncQueue, Forbidden, InvalidInput, Queue, Unauthenticated
from servers.endpoint import free_port


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    with served(SqliteDatabase(home / "data")) as url:
        yield url


def test_the_job_is_in_the_store_of_the_server(url: str) -> None:
    with Queue(url, token="admin") as remote, Queue() as direct:
        job = remote.enqueue("true", queue="mail")
        assert direct.show(job) == job


def test_an_async_queue_has_the_same_jobs(url: str) -> None:
    async def main() -> None:
        async with AsyncQueue(url, token="admin") as queue:
            job = await queue.enqueue("true", hold=True)
            assert await queue.list() == [job]

    asyncio.run(main())


def test_a_lost_worker_is_forgotten(url: str, home: Path) -> None:
    lose_worker(home)
    with Queue(url, token="admin") as queue:
        assert [each.name for each in queue.forget()] == ["gone"]
        assert queue.workers() == []


def test_the_token_given_is_used_before_that_of_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUECTL_TOKEN", "admin")
    with Queue(url) as queue, Queue(url, token="view") as viewer:
        job = queue.enqueue("true")
        assert viewer.list() == [job]
        with pytest.raises(Forbidden):
            viewer.cancel(job)


def test_without_a_token_and_with_a_wrong_one(url: str) -> None:
    for token in (None, "wrong"):
        with Queue(url, token=token) as queue, pytest.raises(Unauthenticated):
            queue.list()


def test_a_token_that_no_header_can_carry_is_refused_and_not_shown() -> None:
    with Queue("http://127.0.0.1:1", token="two words") as queue, pytest.raises(InvalidInput) as raised:
        queue.list()
    assert "two words" not in str(raised.value)


def test_a_token_does_not_go_to_another_host_in_clear() -> None:
    with (
        Queue("http://192.0.2.1:7733", token="admin") as queue,
        pytest.raises(InvalidInput, match="in clear"),
    ):
        queue.list()


@pytest.mark.parametrize("kind", [Queue, AsyncQueue])
def test_a_token_goes_in_clear_with_insecure_http(
    kind: type[Queue | AsyncQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request is made: the address is only for documentation."""
    queue = kind("http://192.0.2.1:7733", token="admin", insecure_http=True)
    opened = queue._open() if isinstance(queue, Queue) else queue._queue._open()
    opened.close()


@pytest.mark.usefixtures("home")
def test_a_store_takes_no_token() -> None:
    with Queue(token="admin") as queue, pytest.raises(InvalidInput, match="a store takes no token"):
        queue.list()


def test_a_server_has_no_transaction_of_the_caller(home: Path) -> None:
    import sqlite3

    db = sqlite3.connect(home / "shop.db")
    with (
        Queue(f"http://127.0.0.1:{free_port()}", token="admin") as queue,
        pytest.raises(InvalidInput, match="cannot join a transaction of a server"),
    ):
        queue.enqueue("true", connection=db)
    db.close()
