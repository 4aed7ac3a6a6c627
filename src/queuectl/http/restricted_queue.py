"""The queue as the holder of a token for some queues sees it: reads everything, and changes only jobs of these queues.

The queue of a job is looked up before the change. If another client moves the job to another queue between the two,
the change still happens: it was allowed when it was requested.
"""

from collections.abc import Sequence
from typing import Any, cast

from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueChange
from queuectl.errors import Forbidden
from queuectl.http.caller import Caller
from queuectl.service.operation import Selection
from queuectl.service.queue import Queue
from queuectl.service.request.fields import JobRequest

READS = frozenset(
    (
        "absent", "now", "parents", "resolve", "show", "get", "list", "ids", "counts", "status", "explain", "output",
        "follow", "wait", "obstacles", "running_job", "refuse_to_wait", "queues", "check_queue", "settings", "workers",
        "silence", "leaving", "tokens", "describe", "doctor",
    )
)  # fmt: skip
DEFAULT = "default"
"""The queue of a request that names none."""


def restricted(queue: Queue, caller: Caller) -> Queue:
    """The queue for the handler of a request of this caller."""
    return queue if caller.queues is None else cast(Queue, RestrictedQueue(queue, caller))


class RestrictedQueue:
    """`Queue` for a caller with `queues`. A method that is neither read nor defined here is forbidden."""

    def __init__(self, queue: Queue, caller: Caller) -> None:
        self._queue, self._caller = queue, caller

    def __getattr__(self, name: str) -> Any:
        if name in READS:
            return getattr(self._queue, name)
        raise self._forbidden(f"change anything but jobs and queues ({name})")

    def enqueue(self, requests: Sequence[JobRequest], **options: Any) -> Any:
        """Refuse all requests if one is for another queue."""
        for request in requests:
            self._check(request.queue or DEFAULT)
        return self._queue.enqueue(requests, **options)

    def cancel(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues. So do the methods that follow."""
        return self._queue.cancel(self._allowed(selection), **options)

    def retry(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues."""
        return self._queue.retry(self._allowed(selection), **options)

    def hold(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues."""
        return self._queue.hold(self._allowed(selection), **options)

    def release(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues."""
        return self._queue.release(self._allowed(selection), **options)

    def edit(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues, and another queue as the new one."""
        if (queue := options.get("queue")) is not None:
            self._check(queue)
        return self._queue.edit(self._allowed(selection), **options)

    def delete(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues."""
        return self._queue.delete(self._allowed(selection), **options)

    def purge(self, wanted: Filter) -> Any:
        """Refuse a filter that is not for one allowed queue."""
        self._allowed(wanted)
        return self._queue.purge(wanted)

    def change_queue(self, queue: str, wanted: QueueChange, **options: Any) -> bool:
        """Refuse other queues."""
        return self._queue.change_queue(self._check(queue), wanted, **options)

    def _allowed(self, selection: Selection) -> Selection:
        """The selection, with references as ids. A job that cannot be read may be in any queue: it is refused."""
        if isinstance(selection, Filter):
            if selection.queue is None:
                raise self._forbidden("select jobs of all queues")
            self._check(selection.queue)
            return selection
        ids = self._queue.resolve(selection)
        jobs = self._queue.get(ids)
        for id in ids:
            if id not in jobs:
                raise self._forbidden(f"change job {id}, whose queue is not known")
            self._check(jobs[id].queue)
        return ids

    def _check(self, queue: str) -> str:
        if queue in (self._caller.queues or ()):
            return queue
        raise self._forbidden(f"change queue {queue!r} and its jobs")

    def _forbidden(self, what: str) -> Forbidden:
        queues = ", ".join(sorted(self._caller.queues or ()))
        return Forbidden(f"{self._caller.name} may not {what}", f"this token is for the queues {queues}")
