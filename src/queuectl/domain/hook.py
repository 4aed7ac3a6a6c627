"""A hook: which events it is for, what it does for each of them, and how far it has read.

A worker reads the events behind `cursor`, adds a job for each that matches, and stores the new cursor in the same step.
The jobs are in the queue `hooks`. Their own events count deliveries, and raise no hooks.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from queuectl.domain.event import Event, Kind
from queuectl.domain.names import check_name
from queuectl.errors import InvalidInput

Moment = Annotated[datetime, Meta(tz=True)]

QUEUE = "hooks"
"""The queue of the jobs of all hooks. Events of jobs in this queue raise no hooks."""
GONE = 69
"""The exit code of a delivery whose receiver answered 410: the hook is paused, and this job is not retried."""
DELIVER = ("queuectl", "hook", "deliver")
"""The beginning of the command of a webhook. The worker that runs it replaces the first word by its own program."""
NAME_LONGEST = 50
TIMEOUT = timedelta(seconds=10)


class Definition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person says about a hook: a job template, or a URL with what belongs to the request.

    on       the kinds of events
    where    a filter for the job of the event
    job      the template: keys of an enqueue
    url      where the event is sent. Like `secret` and the values of `headers` it may be a reference
    secret   a reference to the key of the signature: `env:NAME` or `file:PATH`, which the delivering worker resolves
    timeout  for the whole request
    proxy    the URL of an HTTP proxy; the proxy variables of the environment are ignored
    """

    on: tuple[Kind, ...]
    where: str | None = None
    job: dict[str, Any] | None = None
    url: str | None = None
    secret: str | None = None
    headers: dict[str, str] = {}
    timeout: timedelta = TIMEOUT
    proxy: str | None = None


FIELDS = Definition.__struct_fields__


class Pause(Struct, frozen=True, kw_only=True):
    """Who paused a hook, when, and why."""

    by: str
    at: Moment
    reason: str | None = None


class Hook(Definition, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the shared table `hooks`. A program of another version that knows a field more is not understood.

    cursor         every event up to this one is decided
    matched        number of events for which it added a job
    delivered      number of its jobs that were completed
    failing_since  when the first attempt failed after the last completed job
    gap            when it last found that events were deleted before it had read them
    """

    name: str
    cursor: str
    created_at: Moment
    paused: Pause | None = None
    matched: int = 0
    delivered: int = 0
    failing_since: Moment | None = None
    gap: Moment | None = None

    @property
    def prefix(self) -> str:
        """The beginning of the ids of its jobs."""
        return f"hook.{self.name}."

    def is_own(self, event: Event) -> bool:
        """Whether the event is about a job of this hook."""
        return event.queue == QUEUE and event.job.startswith(self.prefix)

    def is_for(self, event: Event) -> bool:
        """Whether it is for this kind of event. The filter is not asked."""
        return event.event in self.on and event.queue != QUEUE

    def after(self, events: Sequence[Event], cursor: str, matched: int, gap: datetime | None) -> "Hook":
        """The hook when these events are decided. `gap`: the time, if events before them were deleted."""
        found = replace(self, cursor=cursor, matched=self.matched + matched, gap=gap or self.gap)
        for event in events:
            if self.is_own(event):
                found = found._with_end(event)
        return found

    def _with_end(self, event: Event) -> "Hook":
        if event.event == "job.completed":
            return replace(self, delivered=self.delivered + 1, failing_since=None)
        if event.event not in ("job.failed", "job.dead"):
            return self
        found = replace(self, failing_since=self.failing_since or event.at)
        if self.url is None or event.event != "job.dead" or event.exit_code != GONE:
            return found
        gone = Pause(by="the receiver", at=event.at, reason="the receiver answered 410 Gone")
        return replace(found, paused=self.paused or gone)

    def job_id(self, cursor: str) -> str:
        """The id of the job for the event with this cursor."""
        return f"{self.prefix}{cursor}"


class Removed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entry of a removed hook. It stays, so that the versions of entries of this name rise.

    Otherwise a worker that read the entry before the removal could store its decision over a new hook of this name.
    """

    removed: Moment


def definition_of(hook: Definition) -> dict[str, Any]:
    """The fields that a person sets."""
    return {name: getattr(hook, name) for name in FIELDS}


def check_hook_name(name: str) -> str:
    """Return the name if a hook may have it, otherwise raise InvalidInput.

    Without full stops, because the id of a job, and the id in a signature, consist of parts between full stops.
    """
    if len(name) > NAME_LONGEST or set(name) & {":", "."}:
        raise InvalidInput(
            f"name: {name[:40]!r} is not allowed for a hook",
            f"a letter or digit, then letters, digits and _ -, at most {NAME_LONGEST} characters",
        )
    return check_name("name", name)


def entry_of(hook: Hook) -> dict[str, Any]:
    """The hook as an entry of the shared table. The key of the entry is the name."""
    value: dict[str, Any] = msgspec.to_builtins(hook)
    del value["name"]
    return value


def hook_of(name: str, value: dict[str, Any]) -> Hook | None:
    """The hook of an entry; None if it was removed, is damaged, or is of a version with more fields."""
    try:
        return msgspec.convert({**value, "name": name}, Hook)
    except msgspec.ValidationError:
        return None


def is_removed(value: dict[str, Any]) -> bool:
    """Whether the entry is that of a removed hook."""
    return "removed" in value
