"""`AsyncQueue.schedules`: the methods of `Queue.schedules`, awaited. `_awaited` derives their signatures and types."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from queuectl.python.schedules import Schedules

P = ParamSpec("P")
Answer = TypeVar("Answer")


def _awaited(
    method: Callable[Concatenate[Schedules, P], Answer],
) -> Callable[Concatenate["AsyncSchedules", P], Coroutine[Any, Any, Answer]]:
    """The method of `AsyncSchedules` that awaits this method of `Schedules`."""

    @wraps(method)
    async def call(self: "AsyncSchedules", /, *args: P.args, **fields: P.kwargs) -> Answer:
        found: Answer = await self._run(partial(method, self._schedules, *args, **fields))
        return found

    return call


class AsyncSchedules:
    """The schedules of a queue for `asyncio`: `Schedules` with the same methods, arguments, values and errors."""

    def __init__(self, schedules: Schedules, run: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._schedules, self._run = schedules, run

    add = _awaited(Schedules.add)
    edit = _awaited(Schedules.edit)
    show = _awaited(Schedules.show)
    list = _awaited(Schedules.list)
    pause = _awaited(Schedules.pause)
    resume = _awaited(Schedules.resume)
    run = _awaited(Schedules.run)
    remove = _awaited(Schedules.remove)
    history = _awaited(Schedules.history)
    preview = _awaited(Schedules.preview)
    apply = _awaited(Schedules.apply)
    export = _awaited(Schedules.export)
