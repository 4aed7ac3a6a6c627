"""The return values of the Python API about hooks: immutable, with the names of the JSON."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, convert

from queuectl.domain.hook import Pause
from queuectl.service.hooks.changing import Applied as Applied
from queuectl.service.hooks.reading import HookStatus
from queuectl.service.shapes import hooks as shapes


class Hook(Struct, frozen=True, kw_only=True):
    """A copy of one hook at the time of reading.

    on             the kinds of events: "job.dead"
    job            the template: arguments of `Queue.enqueue`, with the names of the JSON; None for a URL
    timeout        of a request; None for a command
    matched        number of events for which it added a job, and `delivered`, how many of these jobs were completed
    failing_since  when the first attempt failed after the last completed job
    gap            when it last found that events were deleted before it had read them
    cursor         every event up to this one is decided
    """

    name: str
    on: tuple[str, ...]
    where: str | None
    job: dict[str, Any] | None
    url: str | None
    secret: str | None
    headers: dict[str, str]
    timeout: timedelta | None
    proxy: str | None
    paused: Pause | None
    matched: int
    delivered: int
    created_at: datetime
    failing_since: datetime | None
    gap: datetime | None
    cursor: str
    version: int


def hook_of(status: HookStatus) -> Hook:
    """Convert a hook to the type of the Python API."""
    timeout = status.hook.timeout if status.hook.url else None
    return convert({**shapes.hook(status), "timeout": timeout}, Hook)
