"""Deletes ended jobs through a server: one operation for all that match."""

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING

from queuectl.domain.instant import format_instant
from queuectl.domain.job import TERMINAL
from queuectl.domain.where import Where, term
from queuectl.errors import CommandFailed
from queuectl.service.operation import Operation

if TYPE_CHECKING:
    from queuectl.http.client.remote_queue import RemoteQueue
    from queuectl.service.matching import Wanted

TURN = timedelta(seconds=1)
"""For how long one request waits. Between two, the caller shows the progress, or stops."""


def purge(queue: "RemoteQueue", wanted: "Wanted") -> Operation[int]:
    """Delete the ended jobs that match. Each step returns the number of deleted jobs."""
    return Operation(_deleted(queue, text_of(wanted)), lambda: queue.counts(wanted).total())


def text_of(wanted: "Wanted") -> str:
    """The ended jobs that match, as the text of a filter. A `Filter` has only fields that a term can set."""
    if isinstance(wanted, Where):
        return f"{wanted.text} {term('state', *sorted(TERMINAL))}"
    since, before = wanted.created_since, wanted.ended_before
    given = {
        "queue": wanted.queue,
        "tag": wanted.tag,
        "batch": wanted.batch,
        "id": f"{wanted.id_prefix}*" if wanted.id_prefix else None,
        "since": format_instant(since) if since else None,
        "older": format_instant(before) if before else None,
    }
    states = term("state", *sorted(wanted.states or TERMINAL))
    return " ".join([states, *(term(field, value) for field, value in given.items() if value is not None)])


def _deleted(queue: "RemoteQueue", where: str) -> Generator[int]:
    """Begin an operation, and wait for its end. A caller that stops between two steps stops it."""
    status, counted = queue.operate("delete", where, wait=TURN), 0
    try:
        while True:
            counted, more = status.tally.changed, status.tally.changed - counted
            yield more
            if not status.is_running:
                break
            status = queue.await_operation(status.id, TURN)
    except GeneratorExit:
        if status.is_running:
            queue.stop_operation(status.id)
        raise
    if status.state == "stopped":
        raise CommandFailed(
            f"operation {status.id} was stopped by another client", "run the same command again"
        )
