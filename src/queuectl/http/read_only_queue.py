"""The queue of a server that only reads. The application refuses such requests; this holds if a route is wrong."""

from typing import Any, cast

from queuectl.http.problem import Refusal
from queuectl.http.restricted_queue import READS, ReadSchedules
from queuectl.service.queue import Queue


def read_only(queue: Queue) -> Queue:
    """The queue without the methods that change something."""
    return cast(Queue, ReadOnlyQueue(queue))


class ReadOnlyQueue:
    """`Queue`, of which every method that does not read is refused."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def schedules(self) -> ReadSchedules:
        """Schedules for reading."""
        return ReadSchedules(
            self._queue.schedules(), lambda name: Refusal("read_only", f"this server only reads ({name})")
        )

    def __getattr__(self, name: str) -> Any:
        if name in READS:
            return getattr(self._queue, name)
        raise Refusal("read_only", f"this server only reads ({name})")
