"""The queue of a server that only reads. The application refuses such requests; this holds if a route is wrong."""

from typing import Any, cast

from queuectl.http.problem import Refusal
from queuectl.http.restricted_queue import HOOK_READS, READS, SCHEDULE_READS, ReadsOnly
from queuectl.service.queue import Queue
from queuectl.service.transfer.running import Transfer


def read_only(queue: Queue) -> Queue:
    """The queue without the methods that change something."""
    return cast(Queue, ReadOnlyQueue(queue))


class ReadTransfer:
    """`Transfer`, of which only exports to the caller of the server are not refused."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer

    def __getattr__(self, name: str) -> Any:
        if name == "export":
            return self._transfer.export
        raise _refusal(name)


def _refusal(name: str) -> Refusal:
    return Refusal("read_only", f"this server only reads ({name})")


class ReadOnlyQueue:
    """`Queue`, of which every method that does not read is refused."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def schedules(self) -> ReadsOnly:
        """Schedules for reading."""
        return ReadsOnly(self._queue.schedules(), SCHEDULE_READS, _refusal)

    def hooks(self) -> ReadsOnly:
        """Hooks for reading."""
        return ReadsOnly(self._queue.hooks(), HOOK_READS, _refusal)

    def transfer(self) -> ReadTransfer:
        """Exports."""
        return ReadTransfer(self._queue.transfer())

    def __getattr__(self, name: str) -> Any:
        if name in READS:
            return getattr(self._queue, name)
        raise _refusal(name)
