"""`AsyncQueue.hooks`: the methods of `Queue.hooks`, awaited. `_awaited` derives their signatures and types."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from queuectl.python.hooks import Hooks

P = ParamSpec("P")
Answer = TypeVar("Answer")


def _awaited(
    method: Callable[Concatenate[Hooks, P], Answer],
) -> Callable[Concatenate["AsyncHooks", P], Coroutine[Any, Any, Answer]]:
    """The method of `AsyncHooks` that awaits this method of `Hooks`."""

    @wraps(method)
    async def call(self: "AsyncHooks", /, *args: P.args, **fields: P.kwargs) -> Answer:
        found: Answer = await self._run(partial(method, self._hooks, *args, **fields))
        return found

    return call


class AsyncHooks:
    """The hooks of a queue for `asyncio`: `Hooks` with the same methods, arguments, values and errors."""

    def __init__(self, hooks: Hooks, run: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._hooks, self._run = hooks, run

    add = _awaited(Hooks.add)
    show = _awaited(Hooks.show)
    list = _awaited(Hooks.list)
    pause = _awaited(Hooks.pause)
    resume = _awaited(Hooks.resume)
    test = _awaited(Hooks.test)
    remove = _awaited(Hooks.remove)
    apply = _awaited(Hooks.apply)
