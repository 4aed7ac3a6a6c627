"""Calls of functions in the threads of a server, so that its event loop is not blocked."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.http.server_state import ServerState


async def in_thread(state: ServerState, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread of the pool, in the context of the caller."""
    loop, context = asyncio.get_running_loop(), copy_context()
    return await loop.run_in_executor(state.pool, lambda: context.run(function, *arguments))


async def in_time(
    state: ServerState, function: Callable[..., Any], *arguments: Any, changes: bool = False
) -> Any:
    """Call a function in a thread of the pool, for as long as a request may take.

    Raises StoreUnavailable when the time is over; OutcomeUnknown if the function changes something.
    """
    try:
        return await asyncio.wait_for(in_thread(state, function, *arguments), state.limits.timeout)
    except (TimeoutError, asyncio.CancelledError):  # cancelled: the server ends
        if changes:
            raise OutcomeUnknown("the store did not answer in time", "repeat the request") from None
        raise StoreUnavailable("the store did not answer in time", "try again") from None
