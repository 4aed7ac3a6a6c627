"""`Queue.hooks` and `AsyncQueue.hooks`."""

import asyncio
import inspect
from pathlib import Path

import msgspec
import pytest

from python.test_administration import names, printed
from python.test_schedules import public
from queuectl import AsyncQueue, Conflict, InvalidInput, NotFound, Queue
from queuectl.python.async_hooks import AsyncHooks
from queuectl.python.hooks import Hooks

URL = "https://ops.example.org/hook"


@pytest.mark.parametrize("name", public(Hooks))
def test_the_awaited_methods_have_the_same_signatures(name: str) -> None:
    ours, theirs = getattr(AsyncHooks, name), getattr(Hooks, name)
    assert public(AsyncHooks).keys() == public(Hooks).keys()
    assert (ours.__doc__, inspect.signature(ours)) == (theirs.__doc__, inspect.signature(theirs))
    assert inspect.iscoroutinefunction(ours)


def test_a_hook_from_its_add_to_its_removal(queue: Queue) -> None:
    hooks = queue.hooks
    added = hooks.add("note", "dead", "cat", where="queue:mail", timeout="5m", env={"A": "b"})
    assert added.on == ("job.dead",)
    assert added.job is not None
    assert (added.job["command"], added.job["timeout"], added.timeout) == ("cat", 300.0, None)
    assert names({"hook": msgspec.to_builtins(added)}) == names(printed("hook", "show", "note"))
    web = hooks.add("web", ["dead", "failed"], url=URL, secret="env:KEY", headers={"A": "b"}, timeout=3)
    assert (web.url, web.secret, web.headers) == (URL, "env:KEY", {"A": "b"})
    assert web.timeout is not None
    assert web.timeout.total_seconds() == 3
    assert [each.name for each in hooks.list()] == ["note", "web"]
    assert hooks.pause("note", reason="moves").paused is not None
    assert hooks.resume("note", skip=True).paused is None
    assert hooks.test("note", {"job": "j7"}).queue == "hooks"
    assert hooks.apply("[hook.new]\non = 'dead'\ncommand = 'cat'", dry_run=True).added == ("new",)
    hooks.remove("web")
    with pytest.raises(NotFound):
        hooks.show("web")


def test_mistakes(queue: Queue) -> None:
    hooks = queue.hooks
    hooks.add("note", "dead", "cat")
    with pytest.raises(Conflict):
        hooks.add("note", "dead", "ls")
    for act in (
        lambda: hooks.add("h", "nonsense", "cat"),
        lambda: hooks.add("h", "dead"),
        lambda: hooks.add("h", "dead", "cat", url=URL),
        lambda: hooks.add("h", "dead", url=URL, retries=3),
        lambda: hooks.add("h", "dead", "cat", colour="red"),
        lambda: hooks.add("h", "dead", url=URL, secret="plain"),
        lambda: hooks.apply("[hook"),
    ):
        with pytest.raises(InvalidInput):
            act()
    assert [each.name for each in hooks.list()] == ["note"]


def test_the_hooks_of_an_async_queue(home: Path) -> None:
    async def main() -> None:
        async with AsyncQueue() as queue:
            await queue.hooks.add("note", "dead", "cat")
            assert await queue.hooks.list() == [await queue.hooks.show("note")]
            job = await queue.hooks.test("note")
            assert await queue.show(job) == job

    asyncio.run(main())
