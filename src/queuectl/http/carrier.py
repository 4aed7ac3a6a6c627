"""Carries on the operations that a server accepted, so that they are done although no worker lives.

One step at a time, in a thread of the pool: requests have the other threads, and several operations take turns. A
server that starts carries on what is running; if workers do too, each step is taken once (`service/carrying.py`).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from queuectl.domain.operation import OperationStatus
from queuectl.errors import OutcomeUnknown, StoreError

if TYPE_CHECKING:
    from queuectl.http.server_state import ServerState

log = logging.getLogger("queuectl.http")

AGAIN = 0.2
"""Seconds between two looks at an operation that another process carries."""
AFTER_FAULT = 1.0
"""Seconds until the next try after a fault of the store."""

Call = Callable[..., Any]


class Carrier:
    """The operations that this server carries on. All methods run in the event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._resuming: asyncio.Task[None] | None = None

    def begin(self, state: "ServerState", id: str) -> None:
        """Carry on an operation until it has ended, or the server ends."""
        if id not in self._tasks and not state.ending.is_set():
            task = self._tasks[id] = asyncio.get_running_loop().create_task(self._carry(state, id))
            task.add_done_callback(lambda _: self._tasks.pop(id, None))

    def start(self, state: "ServerState") -> None:
        """Carry on the operations that are running when this server starts."""
        self._resuming = asyncio.get_running_loop().create_task(self._resume(state))

    async def _resume(self, state: "ServerState") -> None:
        """Begin with each running operation, once the store answers."""
        while not state.ending.is_set():
            if state.fault is None:
                with suppress(StoreError):
                    for status in await self._call(state, state.queue.operations):
                        if status.is_running:
                            self.begin(state, status.id)
                    return
            await pause(state, AFTER_FAULT)

    async def _carry(self, state: "ServerState", id: str) -> None:
        step: Call = state.queue.carry_operation  # type: ignore[attr-defined]  # of `LocalQueue`
        while not state.ending.is_set():
            try:
                async with self._turn:
                    status: OperationStatus | None = await self._call(state, step, id)
            except (StoreError, OutcomeUnknown):
                await pause(state, AFTER_FAULT)
                continue
            except Exception:
                log.exception("operation %s is left to the workers", id)
                return
            if status is None or not status.is_running:
                return
            if status.carried_until is not None:
                await pause(state, AGAIN)

    async def _call(self, state: "ServerState", function: Call, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(state.pool, function, *arguments)


async def pause(state: "ServerState", seconds: float) -> None:
    """Wait, or until the server begins to end."""
    with suppress(TimeoutError):
        await asyncio.wait_for(state.ending.wait(), seconds)
