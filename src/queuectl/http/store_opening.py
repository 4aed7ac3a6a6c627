"""Opens the store of a server. A server starts while the store does not answer, and reaches it later."""

import asyncio
import logging
from contextlib import suppress

from queuectl import bootstrap
from queuectl.errors import StoreError, StoreUnavailable
from queuectl.http.server_state import ServerState
from queuectl.http.threads import in_thread
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources

log = logging.getLogger("queuectl.http")

FIRST_PATIENCE = 2.0
"""Seconds that the start waits for a store that does not answer."""

PATIENCE = 10.0
"""Seconds that a request waits for a busy store."""

PAUSE = 1.0
"""Seconds between two attempts to reach the store."""


def first(sources: Sources, *, read_only: bool) -> tuple[LocalQueue, str | None]:
    """The queue, and why its store does not answer; None if it does. A missing store is created.

    The queue connects at each call while the store does not answer, so it works as soon as the store does.
    Raises StoreUnusable: waiting does not repair a store that must not be used.
    """
    fault = None
    try:
        _create(sources, FIRST_PATIENCE, read_only=read_only)
    except StoreUnavailable as error:
        fault = error.message
    return bootstrap.open_local(sources, "raise", patience=PATIENCE), fault


def _create(sources: Sources, patience: float, *, read_only: bool) -> None:
    queue = bootstrap.open_local(sources, "empty" if read_only else "create", patience=patience)
    try:
        queue.settings()
        if not read_only:
            queue.create()
    finally:
        queue.close()


async def until_reached(state: ServerState, sources: Sources) -> None:
    """Try to reach the store until it answers once, and create it if it is missing."""
    while state.fault is not None and not state.ending.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(state.ending.wait(), PAUSE)
        try:
            await in_thread(state, lambda: _create(sources, PATIENCE, read_only=state.read_only))
        except StoreError as error:
            state.fault = error.message
        else:
            state.fault = None
            log.info("the store answers")
