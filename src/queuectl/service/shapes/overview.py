"""The documents of the whole system: its status, its queues, and what needs a person."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from queuectl.domain.job import STATES, State
from queuectl.domain.query import Counts
from queuectl.service.queue_status import QueueStatus
from queuectl.service.shapes.record import Record, build, document, instant, seconds
from queuectl.service.shapes.workers import WORKER
from queuectl.service.status import Attention, LastHour, Status

ATTENTION = Record(Attention, "kind text hint fault")
LAST_HOUR = Record(LastHour, "retries deaths")

attention, attention_of = ATTENTION.encode, ATTENTION.decode


def queue(queue: QueueStatus) -> dict[str, Any]:
    """The JSON object of one queue."""
    return {
        "name": queue.name,
        "paused": queue.paused,
        "limit": queue.limit,
        "pending": queue.jobs.get("pending", 0),
        "processing": queue.jobs.get("processing", 0),
        "jobs": dict(queue.jobs),
        "reason": queue.reason,
        "version": queue.version,
    }


def all_queues(found: Sequence[QueueStatus]) -> dict[str, Any]:
    """All queues."""
    return document(queues=[queue(each) for each in found])


def one_queue(found: QueueStatus | None, name: str) -> dict[str, Any]:
    """One queue as a document; its name alone if it has neither jobs nor settings."""
    return document(queue=queue(found) if found else {"name": name})


def queue_of(document: Mapping[str, Any]) -> QueueStatus:
    """One queue, from a list of queues or from the status."""
    return build(document, QueueStatus)


def status(status: Status) -> dict[str, Any]:
    """A summary of the whole system, with the problems that need a person."""
    return document(
        store={"url": status.url, "durability": status.durability},
        jobs={"total": sum(status.jobs.values()), **status.jobs},
        queues=[
            {
                **queue(item),
                "oldest_due_seconds": _since(item.oldest_due, status.now),
                "oldest_due": instant(item.oldest_due),
            }
            for item in status.queues
        ],
        slots={
            "live": status.live,
            "processing": status.processing,
            "idle": status.live - status.processing,
        },
        without_slot={"claimed_ahead": status.ahead, "held_by_lost": status.lost},
        workers=WORKER.many.encode(status.workers),
        last_hour=LAST_HOUR.encode(status.last_hour),
        attention=ATTENTION.many.encode(status.attention),
        now=instant(status.now),
    )


def counted(counts: Counts) -> dict[str, Any]:
    """The number of jobs that match a filter, per state and per queue, by the names of `status`."""
    return document(
        jobs={"total": counts.total(), **_all_states(counts.states())},
        queues=[{"name": name, **_all_states(states)} for name, states in sorted(counts.queues.items())],
    )


def _all_states(counts: Mapping[State, int]) -> dict[State, int]:
    return {state: counts.get(state, 0) for state in STATES}


def status_of(document: Mapping[str, Any]) -> Status:
    """The status of its document."""
    jobs, slots, others = document["jobs"], document["slots"], document["without_slot"]
    fields = {
        **document["store"],
        "jobs": {state: count for state, count in jobs.items() if state != "total"},
        "queues": document["queues"],
        "workers": WORKER.many.decode(document["workers"]),
        "live": slots["live"],
        "processing": slots["processing"],
        "ahead": others["claimed_ahead"],
        "lost": others["held_by_lost"],
        "last_hour": document["last_hour"],
        "attention": document["attention"],
        "now": document["now"],
    }
    return build(fields, Status)


def _since(at: datetime | None, now: datetime) -> float | int | None:
    return None if at is None else seconds(max(now - at, timedelta(0)))
