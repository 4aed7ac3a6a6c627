"""`AsyncQueue`: the names and the types of `Queue`, and what is special in an event loop."""

import asyncio
import inspect
import os
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Coroutine
from pathlib import Path

import pytest

from cli.acting import Actor
from facts import eventually
from queuectl import AsyncQueue, ClosedQueue, Conflict, InvalidInput, Queue, WaitTimeout
from queuectl.python import async_queue
from queuectl.python import queue as sync_queue
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore


def public(kind: type) -> dict[str, typing.Any]:
    return {name: value for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")}


class TestSignatures:
    def test_the_names_are_those_of_queue(self) -> None:
        assert public(AsyncQueue).keys() == public(Queue).keys()

    @pytest.mark.parametrize("name", public(Queue))
    def test_arguments_and_description_are_those_of_queue(self, name: str) -> None:
        ours, theirs = getattr(AsyncQueue, name), getattr(Queue, name)
        assert ours.__doc__ == theirs.__doc__
        written = inspect.signature(ours, follow_wrapped=False).parameters.values()
        if [parameter.kind for parameter in written] != DERIVED:
            assert list(written) == list(inspect.signature(theirs).parameters.values())
        assert inspect.signature(ours) == inspect.signature(theirs)

    @pytest.mark.parametrize("name", public(Queue))
    def test_each_is_awaited_and_each_iterator_is_read_with_async_for(self, name: str) -> None:
        iterates = "Iterator" in str(inspect.signature(getattr(Queue, name)).return_annotation)
        method = getattr(AsyncQueue, name)
        assert inspect.isasyncgenfunction(method) == iterates
        assert inspect.iscoroutinefunction(method) != iterates


DERIVED = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
]
"""The parameters of a function that `awaited` makes: the queue, and whatever the method of `Queue` takes."""


@pytest.fixture
def store(home: Path) -> Queue:
    """The same store, used without `asyncio`."""
    return Queue()


def run(program: Coroutine[typing.Any, typing.Any, object]) -> None:
    """Run a program that is over soon."""
    asyncio.run(asyncio.wait_for(program, 60))


@pytest.mark.usefixtures("home")
class TestCalls:
    def test_enqueue_show_list_and_change(self) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                job = await queue.enqueue("true", id="a", queue="mail")
                assert await queue.show("a") == job
                assert await queue.list(queue="mail") == [job]
                assert (await queue.cancel(job)).state == "cancelled"
                with pytest.raises(Conflict):
                    await queue.hold(job)
                with pytest.raises(InvalidInput):
                    await queue.enqueue("true", priority=5000)
                assert (await queue.status()).jobs["cancelled"] == 1

        run(program())

    def test_enqueue_many_in_commits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(async_queue, "COMMIT", 10)
        monkeypatch.setattr(sync_queue, "COMMIT", 10)

        async def program() -> None:
            async with AsyncQueue() as queue:
                added = queue.enqueue_many(f"echo {n}" for n in range(25))
                assert (await anext(added)).status == "added"
                assert len(await queue.list(limit=None)) == 10
                assert len([each async for each in added]) == 24
                assert len(await queue.list(limit=None)) == 25
                seen = []
                with pytest.raises(InvalidInput):
                    async for each in queue.enqueue_many([*["true"] * 10, " "]):
                        seen.append(each)
                assert len(seen) == 10

        run(program())

    @pytest.mark.usefixtures("worker")
    def test_wait_output_and_follow(self) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                job = await queue.enqueue("for n in 1 2 3; do echo $n; sleep 0.1; done; exit 3", retries=0)
                assert b"".join([part.data async for part in queue.follow(job)]) == b"1\n2\n3\n"
                job = await queue.wait(job, timeout=30)
                assert (job.state, job.exit_code, (await queue.output(job)).text) == ("dead", 3, "1\n2\n3\n")
                first = await anext(queue.follow(job))
                rest = [part async for part in queue.follow(job, after=first)]
                assert first.data + b"".join(part.data for part in rest) == b"1\n2\n3\n"

        run(program())

    @pytest.mark.parametrize("printed", [b"first", b""])
    def test_follow_keeps_its_first_attempt_between_turns(
        self, monkeypatch: pytest.MonkeyPatch, printed: bytes
    ) -> None:
        """Attempt 2 begins between two turns, of which the first one saw no attempt, or one without output."""
        store = MemoryStore()
        actor, local = Actor(store), LocalQueue(store, Sources({}, None, print))
        local.enqueue([JobRequest(id="a", command="x", max_retries=3)])
        queue = Queue()
        monkeypatch.setattr(queue, "_open", lambda: local)
        turns = async_queue._Turns(queue, "a", None, None)
        if not printed:
            actor.take("a")
        assert turns.look(0) is None
        if printed:
            actor.take("a")
        actor.prints("a", b"first")
        actor.ends("a", exit_code=1)
        actor.take("a")
        actor.prints("a", b"second")
        found = turns.look(0)
        assert found is not None
        assert [(part.attempt, part.data) for part in found[0]] == [(1, b"first"), (2, b"second")]
        assert turns.look(0) is None
        actor.prints("a", b"more")
        found = turns.look(0)
        assert found is not None
        assert [(part.attempt, part.data) for part in found[0]] == [(2, b"more")]

    def test_follow_reads_attempts_after_one_that_was_given_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = MemoryStore()
        actor, local = Actor(store), LocalQueue(store, Sources({}, None, print))
        local.enqueue([JobRequest(id="a", command="x", max_retries=3)])
        queue = Queue()
        monkeypatch.setattr(queue, "_open", lambda: local)
        turns = async_queue._Turns(queue, "a", None, None)
        actor.take("a")
        assert turns.look(0) is None
        actor.gives_back("a")
        for text in (b"first", b"second"):
            actor.runs("a", text, exit_code=1)
        found = turns.look(0)
        assert found is not None
        assert [(part.attempt, part.data) for part in found[0]] == [(1, b"first"), (2, b"second")]

    def test_each_turn_of_follow_reads_only_what_is_new(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One chunk more is read in each turn: its size decides how many are read at once."""
        store = MemoryStore()
        actor, local = Actor(store), LocalQueue(store, Sources({}, None, print))
        local.enqueue([JobRequest(id="a", command="x")])
        actor.runs("a", *(b"%d\n" % n for n in range(1000)))
        queue, read, read_output = Queue(), list[int](), store.read_output

        def reading(attempt_id: str, after: int, limit: int) -> object:
            chunks = read_output(attempt_id, after, limit)
            read.extend(chunk.n for chunk in chunks)
            return chunks

        monkeypatch.setattr(queue, "_open", lambda: local)
        monkeypatch.setattr(store, "read_output", reading)
        turns, found, ended = async_queue._Turns(queue, "a", None, None), b"", False
        while not ended:
            taken = turns.look(0)
            assert taken is not None
            found += b"".join(part.data for part in taken[0])
            ended = taken[1]
        assert found == b"".join(b"%d\n" % n for n in range(1000))
        assert len(read) < 1010

    def test_a_wait_has_a_timeout(self) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                job = await queue.enqueue("true", hold=True)
                for timeout in (0, 0.1, async_queue.TURN + 0.1):
                    begun = time.monotonic()
                    with pytest.raises(WaitTimeout):
                        await queue.wait([job], timeout=timeout)
                    assert time.monotonic() - begun >= timeout

        run(program())


@pytest.mark.usefixtures("home")
class TestLoop:
    def test_many_waits_and_follows_leave_threads_for_other_calls(self) -> None:
        """Else a program that waits for eight jobs could not release the first of them."""

        async def program() -> None:
            async with AsyncQueue() as queue:
                jobs = [await queue.enqueue("true", hold=True) for _ in range(20)]
                waits = [asyncio.create_task(queue.wait(job)) for job in jobs]
                follows = [asyncio.create_task(anext(queue.follow(job), None)) for job in jobs]
                await asyncio.sleep(0)
                async with asyncio.timeout(8):  # 20 s if all threads are blocked in turns
                    for job in jobs:
                        await queue.cancel(job)
                assert {job.state for job in await asyncio.gather(*waits)} == {"cancelled"}
                assert set(await asyncio.gather(*follows)) == {None}

        run(program())

    def test_a_cancelled_wait_frees_its_thread(self) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                job = await queue.enqueue("true", hold=True)
                for _ in range(3 * async_queue.THREADS):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(queue.wait(job), 0.01)
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(queue.follow(job)), 0.01)
                assert (await asyncio.wait_for(queue.show(job), 10)).state == "held"
                deadline = asyncio.get_running_loop().time() + 10
                while queue._blocked._value < async_queue.BLOCKED:
                    assert asyncio.get_running_loop().time() < deadline
                    await asyncio.sleep(0.01)

        run(program())

    def test_a_cancelled_enqueue_can_be_repeated_with_its_id(self, store: Queue) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                task = asyncio.create_task(queue.enqueue("true", id="once"))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (await queue.enqueue("true", id="once")).id == "once"

        run(program())
        with store:
            assert [job.id for job in store.list()] == ["once"]

    def test_a_call_does_not_stop_the_loop(self) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                job = await queue.enqueue("true", hold=True)
                waiting = asyncio.create_task(queue.wait(job, timeout=0.3))
                turns = 0
                while not waiting.done():
                    await asyncio.sleep(0.01)
                    turns += 1
                assert turns >= 5
                with pytest.raises(WaitTimeout):
                    await waiting

        run(program())

    def test_two_loops_use_one_queue(self, store: Queue) -> None:
        queue = AsyncQueue()

        def enqueue(name: str) -> None:
            async def program() -> None:
                for n in range(5):
                    await queue.enqueue("true", id=f"{name}{n}", hold=True)
                with pytest.raises(WaitTimeout):
                    await queue.wait(f"{name}0", timeout=0.1)

            run(program())

        threads = [threading.Thread(target=enqueue, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run(queue.close())
        with store:
            assert len(store.list()) == 10

    def test_a_closed_queue_says_so_and_closing_again_is_nothing(self) -> None:
        async def program() -> None:
            queue = AsyncQueue()
            job = await queue.enqueue("true", hold=True)
            waiting = asyncio.create_task(queue.wait(job))
            await asyncio.sleep(0.05)
            await queue.close()
            await queue.close()
            with pytest.raises(ClosedQueue):
                await waiting
            for call in (queue.list(), queue.enqueue("true"), queue.wait(job), anext(queue.follow(job))):
                with pytest.raises(ClosedQueue):
                    await call

        run(program())

    def test_a_cancelled_close_has_closed_the_queue(self) -> None:
        async def program() -> None:
            queue = AsyncQueue()
            await queue.list()
            task = asyncio.create_task(queue.close())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert queue._threads is None
            await queue.close()
            with pytest.raises(ClosedQueue):
                await queue.list()
            eventually(lambda: queue._queue._closed and queue._queue._opened is None)

        run(program())

    def test_nothing_is_opened_and_no_thread_starts_before_the_first_call(self, home: Path) -> None:
        async def program() -> None:
            before = threading.active_count()
            queue = AsyncQueue()
            assert threading.active_count() == before
            await queue.close()

        run(program())
        assert not (home / "data").exists()

    def test_no_thread_is_left(self) -> None:
        def threads() -> set[threading.Thread]:
            return {thread for thread in threading.enumerate() if thread.name.startswith("queuectl")}

        async def program() -> None:
            async with AsyncQueue() as queue:
                await queue.enqueue("true")

        before = threads()  # a server for other tests may run in this process
        run(program())
        eventually(lambda: not threads() - before)

    def test_the_child_of_a_fork_has_threads_of_its_own(self, store: Queue) -> None:
        queue = AsyncQueue()
        run(queue.enqueue("true", id="parent"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(queue.enqueue("true", id="child"))
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        run(queue.close())
        with store:
            assert {job.id for job in store.list()} == {"parent", "child"}

    def test_a_program_that_leaves_a_wait_behind_ends(self) -> None:
        program = """
import asyncio
from queuectl import AsyncQueue
async def main():
    queue = AsyncQueue()
    job = await queue.enqueue("true", hold=True)
    try:
        await asyncio.wait_for(queue.wait(job), 0.05)
    except TimeoutError:
        print("ended")
asyncio.run(main())
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        )
        assert (done.stdout, done.stderr) == ("ended\n", "")
