"""The heartbeat: a worker's entry in the registry, renewed at its interval and soon after the entry changed."""

import os
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from queuectl import __version__
from queuectl.clock import boottime
from queuectl.domain.worker import Slot, Worker
from queuectl.service import registry, worker_status
from queuectl.service.consumption import grace
from queuectl.worker.agent.circuit_breaker import CircuitBreaker
from queuectl.worker.agent.clock_watch import ClockWatch
from queuectl.worker.agent.context import Context
from queuectl.worker.agent.shared_settings import SharedSettings
from queuectl.worker.agent.shutdown import Shutdown
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.host import process_table
from queuectl.worker.protocol import Rename, Welcome

SOON = 0.5
"""Minimum seconds between two heartbeats. Without a minimum every short job would cost a write, as it changes slots."""


class _Shown(NamedTuple):
    """The part of the entry that changes while the worker runs."""

    slots: tuple[Slot, ...]
    state: Literal["running", "paused", "draining"]
    note: str | None


class Heartbeat:
    """The duty that writes the entry, and reads the instruction for the worker and the shared settings."""

    def __init__(
        self,
        context: Context,
        welcome: Welcome,
        clock: StoreTime,
        watch: ClockWatch,
        breaker: CircuitBreaker,
        settings: SharedSettings,
        shutdown: Shutdown,
    ) -> None:
        self._context, self._clock, self._watch = context, clock, watch
        self._breaker, self._settings, self._shutdown = breaker, settings, shutdown
        self._begun: tuple[float | None, float] = (welcome.born, welcome.started_at)
        self._fixed: dict[str, Any] = {
            "id": context.worker_id,
            "name": welcome.worker["name"],
            "host": context.host,
            "boot_id": welcome.boot_id,
            "holder_pid": welcome.holder_pid,
            "agent_pid": os.getpid(),
            "version": __version__,
            "count": context.count,
            "queues": tuple(context.queues),
            "directory": welcome.directory,
        }
        self._shown: _Shown | None = None
        self._last = self._due = 0.0

    def run_next(self) -> None:
        """Send a heartbeat in the next round, independent of the interval."""
        self._due = 0.0

    def due(self, now: float) -> float:
        """The end of the interval, or sooner if the entry is out of date."""
        soon = self._last + SOON
        if self._due > soon and self._view(now) != self._shown:
            self._due = soon
        return self._due

    def run(self, now: float) -> None:
        """Write the current entry."""
        context = self._context
        view = self._view(now)
        self._clock.measure()
        if "started_at" not in self._fixed:
            # Converted only once: the registry is sorted by the start, so the start must not change with each
            # measurement.
            self._fixed["started_at"] = datetime.fromtimestamp(self._clock.convert(*self._begun), UTC)
        current: dict[str, Any] = {
            "skew": self._clock.skew,
            "clock_jump": self._watch.jump,
            "claimed_at": context.claims.claimed_since(context.store.now() - grace(context.settings.lease)),
        }
        instruction = context.store.heartbeat(Worker(**self._fixed, **current, **view._asdict()))
        self._shown, self._last = view, boottime()
        self._due = self._last + context.settings.heartbeat_interval.total_seconds()
        self._settings.read()
        self._shutdown.obey(instruction)

    def keep_name(self) -> None:
        """Choose another name if another live worker has this worker's name.

        The other worker started at the same time, or while this worker sent no heartbeat. Call this method after a
        heartbeat: each of two workers that start together writes its entry before it reads the entries of others, so
        at least one of them finds the other. If both do, both choose another name.
        """
        context, own = self._context, self._fixed
        taken = {
            item.worker.name
            for item in worker_status.workers(context.store, context.settings)
            if item.worker.id != own["id"] and item.state != "lost" and not _has_died(item.worker)
        }
        name = registry.free_name(own["name"], taken, host=own["host"], pid=own["holder_pid"], id=own["id"])
        if name != own["name"]:
            context.log.note("name", f"another live worker is called {own['name']}; this one is {name} now")
            context.connection.send(Rename(name))
            own["name"] = name
            self._due = min(self._due, self._last + SOON)

    def _view(self, now: float) -> _Shown:
        context = self._context
        closed = self._breaker.is_closed(now)
        state: Literal["running", "paused", "draining"] = "running" if closed else "paused"
        slots = context.claims.slots(context.count)
        note = None if closed else self._breaker.reason
        return _Shown(slots, state if context.phase == "running" else "draining", note)


def _has_died(worker: Worker) -> bool:
    return process_table.has_died(worker.host, worker.holder_pid, worker.boot_id, worker.directory)
