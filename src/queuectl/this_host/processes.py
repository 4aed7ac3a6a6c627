"""Workers as processes of this host: whether they have exited, and whether a lost one may be forgotten."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from queuectl.clock import boottime
from queuectl.domain.worker import Worker
from queuectl.errors import Conflict, StoreUnavailable
from queuectl.service import registry
from queuectl.service.attention import worker_in_words
from queuectl.service.queue import Queue
from queuectl.service.registry import Silence
from queuectl.service.worker_status import WorkerStatus


class Parting(NamedTuple):
    """The result of a stop: the workers that have exited, that still run, and that do not answer."""

    stopped: list[Worker]
    leaving: list[Worker]
    silent: list[Silence]

    @property
    def remaining(self) -> list[str]:
        """The ids of the workers that have not exited."""
        return sorted(
            [worker.id for worker in self.leaving] + [silent.item.worker.id for silent in self.silent]
        )


def to_forget(found: Sequence[WorkerStatus], words: Sequence[str] | None) -> Sequence[WorkerStatus]:
    """The named workers (None: all lost workers). Raises Conflict if a named one is a process of this host."""
    if words is None:
        return [item for item in found if item.state == "lost" and not is_here(item.worker)]
    items = registry.chosen(found, words, lost=True)
    for item in items:
        if item.state == "lost" and is_here(item.worker):
            raise Conflict(
                f"{worker_in_words(item)} is a process of this host: it was stopped or hangs",
                f"end it first: kill {item.worker.holder_pid}",
            )
    return items


def await_end(
    queue: Queue, items: Sequence[WorkerStatus], timeout: float | None, *, at_once: bool, is_remote: bool
) -> Parting:
    """Wait until each worker has left the registry (on this host also the process table), or does not answer."""
    deadline = None if timeout is None else boottime() + timeout
    waiting = {item.worker.id: item for item in items}
    stopped: list[Worker] = []
    silent: list[Silence] = []
    gone: set[str] = set()  # have left the registry, while their process may still run
    idle = threading.Event()  # is never set
    while True:
        asked = [item for id, item in waiting.items() if id not in gone]
        listed = {
            item.worker.id: item for item in _leaving(queue, asked, at_once=at_once, is_remote=is_remote)
        }
        gone.update(item.worker.id for item in asked if item.worker.id not in listed)
        for id, item in list(waiting.items()):
            now = listed.get(id)
            if id in gone and not is_here(item.worker):
                stopped.append(waiting.pop(id).worker)
            elif now is not None and now.state == "lost" and not is_here(item.worker, running=True):
                silent.append(queue.silence(now))
                waiting.pop(id)
        left = 0.2 if deadline is None else min(0.2, deadline - boottime())
        if not waiting or left <= 0:
            return Parting(stopped, [item.worker for item in waiting.values()], silent)
        idle.wait(left)


def await_reload(queue: Queue, items: Sequence[WorkerStatus], timeout: float) -> list[Worker]:
    """Wait until each worker has another agent, or has left. Returns those that still have the same agent."""
    deadline, idle = boottime() + timeout, threading.Event()
    while True:
        agents = {item.worker.id: item.worker.agent_pid for item in queue.workers()}
        old = [item.worker for item in items if agents.get(item.worker.id) == item.worker.agent_pid]
        left = min(0.2, deadline - boottime())
        if not old or left <= 0:
            return old
        idle.wait(left)


def _leaving(
    queue: Queue, items: Sequence[WorkerStatus], *, at_once: bool, is_remote: bool
) -> Sequence[WorkerStatus]:
    """Those of these workers that are still in the registry.

    A worker with an HTTP server ends this server too. So a client of this server asks only while a worker is in the
    registry, and if the server has ended nevertheless, the process table of this host answers.
    """
    if not items:
        return []
    try:
        return queue.leaving([item.worker.id for item in items], at_once=at_once)
    except StoreUnavailable:
        if is_remote and all(has_died(item.worker) for item in items):
            return []
        raise


def is_here(worker: Worker, *, running: bool = False) -> bool:
    """Whether the worker's holder is a process of this host. `running`: and is not stopped by a signal."""
    from queuectl.worker.host import process_table

    return process_table.sees(worker.host, worker.directory) and process_table.is_holder(
        worker.holder_pid, worker.boot_id, running=running
    )


def has_died(worker: Worker) -> bool:
    """Whether the worker's holder was a process of this host and has ended."""
    from queuectl.worker.host import process_table

    return process_table.has_died(worker.host, worker.holder_pid, worker.boot_id, worker.directory)
