"""The queue as the holder of a token for some queues sees it: reads everything but the events of other queues, and
changes only jobs of these queues.

A cancel and a retry also change jobs that wait for the job, in any queue: they are refused if one of these is in
another queue. The queues are looked up before the change. If another client moves a job to another queue between the
two, or adds a job that waits, the change still happens: it was allowed when it was requested.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

from msgspec.structs import replace

from queuectl.domain.ids import handle
from queuectl.domain.job import STATES, TERMINAL, Job, State
from queuectl.domain.operation import Verb
from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueChange
from queuectl.domain.where import Where, parse
from queuectl.errors import Forbidden, QueuectlError
from queuectl.http.caller import Caller
from queuectl.service.events import EVERYTHING, EventPage, Events, Selected
from queuectl.service.hooks.api import Hooks
from queuectl.service.matching import Wanted
from queuectl.service.operation import Selection
from queuectl.service.queue import Queue
from queuectl.service.request.fields import JobRequest
from queuectl.service.schedules.api import Schedules

READS = frozenset(
    (
        "absent", "now", "parents", "resolve", "show", "get", "list", "ids", "counts", "status", "explain", "output",
        "follow", "wait", "obstacles", "running_job", "refuse_to_wait", "queues", "check_queue", "settings", "workers",
        "silence", "leaving", "tokens", "describe", "doctor", "preview_operation", "operation", "operations",
        "await_operation", "stats", "events",
    )
)  # fmt: skip
HOOK_READS = frozenset(("all", "show"))
SCHEDULE_READS = frozenset(("all", "show", "history", "compare", "named"))
LIVING = frozenset(STATES) - TERMINAL
CANCELLED: frozenset[State] = frozenset(("cancelled",))
STEP = 500
"""Jobs whose waiting jobs are looked up at once."""
DEFAULT = "default"
"""The queue of a request that names none."""


def restricted(queue: Queue, caller: Caller) -> Queue:
    """The queue for the handler of a request of this caller."""
    return queue if caller.queues is None else cast(Queue, RestrictedQueue(queue, caller))


class ReadsOnly:
    """`Schedules` or `Hooks`, of which every method that does not read is refused."""

    def __init__(
        self, entries: Schedules | Hooks, reads: frozenset[str], refusal: Callable[[str], QueuectlError]
    ) -> None:
        self._entries, self._reads, self._refusal = entries, reads, refusal

    def __getattr__(self, name: str) -> Any:
        if name in self._reads:
            return getattr(self._entries, name)
        raise self._refusal(name)


class OwnEvents:
    """`Events`, of which only those of some queues are read."""

    def __init__(self, events: Events, queues: frozenset[str]) -> None:
        self._events, self._queues = events, queues

    def page(self, after: str | None, limit: int, selected: Selected = EVERYTHING) -> EventPage:
        """As `Events.page`."""
        return self._events.page(after, limit, replace(selected, queues=self._queues))

    def cursor(self, at: datetime | None) -> str:
        """As `Events.cursor`."""
        return self._events.cursor(at)


class RestrictedQueue:
    """`Queue` for a caller with `queues`. A method that is neither read nor defined here is forbidden."""

    def __init__(self, queue: Queue, caller: Caller) -> None:
        self._queue, self._caller = queue, caller

    def __getattr__(self, name: str) -> Any:
        if name in READS:
            return getattr(self._queue, name)
        raise self._forbidden(f"change anything but jobs and queues ({name})")

    def schedules(self) -> Any:
        """The schedules, which this caller may only read, because a schedule can enqueue into any queue."""
        return ReadsOnly(
            self._queue.schedules(), SCHEDULE_READS, lambda name: self._forbidden(f"{name} schedules")
        )

    def hooks(self) -> Any:
        """The hooks, which this caller may only read, because a hook is told of jobs of all queues."""
        return ReadsOnly(self._queue.hooks(), HOOK_READS, lambda name: self._forbidden(f"{name} hooks"))

    def events(self) -> "OwnEvents":
        """The events of these queues."""
        return OwnEvents(self._queue.events(), self._caller.queues or frozenset())

    def enqueue(self, requests: Sequence[JobRequest], **options: Any) -> Any:
        """Refuse all requests if one is for another queue."""
        for request in requests:
            self._check(request.queue or DEFAULT)
        return self._queue.enqueue(requests, **options)

    def cancel(self, selection: Selection, **options: Any) -> Any:
        """Refuse jobs of other queues, and jobs for which a job of another queue waits."""
        ids = self._ids(selection)
        if below := self._outside(ids, LIVING):
            raise self._forbidden(f"cancel what job {handle(below)} in queue {below.queue!r} waits for")
        return self._queue.cancel(ids, **options)

    def retry(self, selection: Selection, *, alone: bool = False, **options: Any) -> Any:
        """Refuse jobs of other queues, and, unless `alone`, jobs with which a job of another queue was cancelled."""
        ids = self._ids(selection)
        if not alone and (below := self._outside(ids, CANCELLED)):
            raise self._forbidden(
                f"revive job {handle(below)} in queue {below.queue!r}", 'retry the job alone: {"alone": true}'
            )
        return self._queue.retry(ids, alone=alone, **options)

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

    def operate(self, verb: Verb, where: str, **options: Any) -> Any:
        """Refuse a filter that is not for one allowed queue, and another queue as the new one of an edit."""
        self._check_filter(parse(where, self._queue.now()).filter)
        args = options.get("args") or {}
        if isinstance(queue := args.get("queue"), str):
            self._check(queue)
        return self._queue.operate(verb, where, **options, queues=sorted(self._caller.queues or ()))

    def stop_operation(self, id: str) -> Any:
        """Refuse an operation on jobs of other queues."""
        found = self._queue.operation(id)
        self._check_filter(parse(found.request.where, found.created_at).filter)
        return self._queue.stop_operation(id)

    def purge(self, wanted: Wanted) -> Any:
        """Refuse a filter that is not for one allowed queue."""
        self._check_filter(wanted if isinstance(wanted, Filter) else wanted.filter)
        return self._queue.purge(wanted)

    def change_queue(self, queue: str, wanted: QueueChange, **options: Any) -> bool:
        """Refuse other queues."""
        return self._queue.change_queue(self._check(queue), wanted, **options)

    def _allowed(self, selection: Selection) -> Selection:
        """The selection, with references as ids. A job that cannot be read may be in any queue: it is refused."""
        if isinstance(selection, Where):
            self._check_filter(selection.filter)
            return selection
        ids = self._queue.resolve(selection)
        jobs = self._queue.get(ids)
        for id in ids:
            if id not in jobs:
                raise self._forbidden(f"change job {id}, whose queue is not known")
            self._check(jobs[id].queue)
        return ids

    def _check_filter(self, wanted: Filter) -> None:
        if wanted.queue is None:
            raise self._forbidden("select jobs of all queues")
        self._check(wanted.queue)

    def _ids(self, selection: Selection) -> Sequence[str]:
        """The ids of an allowed selection."""
        allowed = self._allowed(selection)
        if isinstance(allowed, Where):
            return self._queue.ids(allowed)[::-1][: allowed.limit]  # in the order of their numbers
        return allowed

    def _outside(self, ids: Sequence[str], states: frozenset[State]) -> Job | None:
        """A job in a queue of others that waits for one of these jobs, directly or through other jobs."""
        seen = set(ids)
        while ids:
            below = dict[str, Job]()
            for start in range(0, len(ids), STEP):
                wanted = Filter(states=states, waiting_for=tuple(ids[start : start + STEP]))
                found = self._queue.get(self._queue.ids(wanted))
                below |= {id: job for id, job in found.items() if id not in seen}
            for job in below.values():
                if job.queue not in (self._caller.queues or ()):
                    return job
            seen |= below.keys()
            ids = list(below)
        return None

    def _check(self, queue: str) -> str:
        if queue in (self._caller.queues or ()):
            return queue
        raise self._forbidden(f"change queue {queue!r} and its jobs")

    def _forbidden(self, what: str, hint: str | None = None) -> Forbidden:
        queues = ", ".join(sorted(self._caller.queues or ()))
        return Forbidden(
            f"{self._caller.name} may not {what}", hint or f"this token is for the queues {queues}"
        )
