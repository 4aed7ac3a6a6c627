"""A worker's entry in the registry: renewed at its interval, and soon after its slots changed."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from queuectl import __version__
from queuectl.clock import boottime
from queuectl.domain.worker import Request, Slot, Worker
from queuectl.store.protocol import Store
from queuectl.worker.messages import Message

SOON = 0.5
"""Seconds: a change of slots is shown no sooner after the last beat, so that short jobs cost no write each."""


class Presence:
    """Beats, and hears what is asked of the worker."""

    def __init__(self, store: Store, welcome: Message, queues: list[str]) -> None:
        self._store = store
        self._fixed: dict[str, Any] = {
            "id": welcome["worker"]["id"],
            "name": welcome["worker"]["name"],
            "host": welcome["worker"]["host"],
            "boot_id": welcome["boot_id"],
            "holder_pid": welcome["holder_pid"],
            "agent_pid": os.getpid(),
            "version": __version__,
            "count": welcome["count"],
            "started_at": datetime.fromtimestamp(welcome["started_at"], UTC),
            "queues": tuple(queues),
        }
        self._shown: tuple[Slot, ...] | None = None
        self._last = 0.0
        self._due = 0.0

    @property
    def due(self) -> float:
        """When the next beat is due (CLOCK_BOOTTIME)."""
        return self._due

    def hasten(self) -> None:
        """Something is to be shown, or somebody may have asked something: beat at the next chance."""
        self._due = min(self._due, self._last + SOON)

    def is_due(self, slots: tuple[Slot, ...]) -> bool:
        """Whether to beat now."""
        if slots != self._shown:
            self.hasten()
        return boottime() >= self._due

    def beat(
        self, slots: tuple[Slot, ...], state: str, note: str | None, interval: timedelta
    ) -> Request | None:
        """Enter the worker as it is now; answers what is asked of it."""
        worker = Worker(**self._fixed, slots=slots, state=state, note=note)  # type: ignore[arg-type]
        asked = self._store.beat(worker)
        self._shown, self._last = slots, boottime()
        self._due = self._last + interval.total_seconds()
        return asked
