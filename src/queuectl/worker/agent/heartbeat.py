"""A worker's entry in the registry: renewed at its interval, and soon after its slots changed."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from queuectl import __version__
from queuectl.clock import boottime
from queuectl.config import Settings
from queuectl.domain.worker import Instruction, Slot, Worker
from queuectl.service import queries, registry
from queuectl.store.protocol import Store
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.log import Log
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.host import process_table
from queuectl.worker.protocol import Fields

SOON = 0.5
"""Seconds: a change of slots is shown no sooner after the last beat, so that short jobs cost no write each."""


class Heartbeat:
    """Beats, and hears what is asked of the worker."""

    def __init__(self, store: Store, welcome: Fields, queues: list[str], clock: StoreTime) -> None:
        self._store, self._time = store, clock
        self._begun: tuple[float | None, float] = (welcome.get("born"), welcome["started_at"])
        self._fixed: dict[str, Any] = {
            "id": welcome["worker"]["id"],
            "name": welcome["worker"]["name"],
            "host": welcome["worker"]["host"],
            "boot_id": welcome["boot_id"],
            "holder_pid": welcome["holder_pid"],
            "agent_pid": os.getpid(),
            "version": __version__,
            "count": welcome["count"],
            "queues": tuple(queues),
            "directory": welcome.get("directory"),
        }
        self.clock_jump: float | None = None
        self._shown: tuple[Slot, ...] | None = None
        self._last = 0.0
        self._due = 0.0

    @property
    def due(self) -> float:
        """When the next beat is due (CLOCK_BOOTTIME)."""
        return self._due

    def keep_name(self, settings: Settings, link: Connection, journal: Log) -> None:
        """Take another name if a live worker has ours, begun at the same moment or while we were silent.

        To be called after a beat: two that begin at once each beat before they look, so at least one sees the other. If
        both do, both take another name.
        """
        own = self._fixed
        taken = {
            item.worker.name
            for item in queries.workers(self._store, settings)
            if item.worker.id != own["id"] and item.state != "lost" and not _has_died(item.worker)
        }
        name = registry.free_name(own["name"], taken, host=own["host"], pid=own["holder_pid"], id=own["id"])
        if name != own["name"]:
            journal.note("name", f"another live worker is called {own['name']}; this one is {name} now")
            link.send({"type": "name", "name": name})
            own["name"] = name
            self.hasten()

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
    ) -> Instruction | None:
        """Enter the worker as it is now; answers what is asked of it."""
        self._time.measure()
        if "started_at" not in self._fixed:  # told once: it is the order of the registry
            self._fixed["started_at"] = datetime.fromtimestamp(self._time.moment(*self._begun), UTC)
        clock = {"skew": self._time.skew, "clock_jump": self.clock_jump}
        worker = Worker(**self._fixed, **clock, slots=slots, state=state, note=note)  # type: ignore[arg-type]
        asked = self._store.heartbeat(worker)
        self._shown, self._last = slots, boottime()
        self._due = self._last + interval.total_seconds()
        return asked


def _has_died(worker: Worker) -> bool:
    return process_table.has_died(worker.host, worker.holder_pid, worker.boot_id, worker.directory)
