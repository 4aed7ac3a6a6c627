"""The job that a hook adds for an event: its command gets the event, or it delivers the event to a URL."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.event import Event
from queuectl.domain.hook import DELIVER, GONE, QUEUE, Definition, Hook
from queuectl.domain.job import Job
from queuectl.domain.label import label_of
from queuectl.domain.quantity import format_duration
from queuectl.service.schedules import template
from queuectl.service.shapes import events as shapes

RETRIES = 12
AFTER_TIMEOUT = timedelta(seconds=5)
"""A delivery that does not end by itself at its timeout is ended so much later."""


class Maker:
    """Makes the jobs of one hook. The constructor checks the template once. It raises InvalidInput for a wrong one."""

    def __init__(self, hook: Hook, settings: Settings, now: datetime) -> None:
        self._hook, self._now = hook, now
        self._request, self._spec = template.parts(hook.job or delivery(hook), settings)

    @property
    def size(self) -> int:
        """The number of bytes of the spec as JSON, about, with the event."""
        return len(msgspec.json.encode(self._spec)) + 2000

    def job(self, id: str, cursor: str, event: Event, about: Job | None) -> Job:
        """The job for an event. `about`: the job of the event, if it still exists."""
        body = msgspec.json.encode(shapes.event(cursor, event))
        env = self._spec.env if self._hook.url else {**self._spec.env, **variables(event, about)}
        label = self._spec.label or f"hook.{self._hook.name}"
        return lifecycle.enqueue(
            id=id,
            spec=replace(self._spec, stdin=body, env=env, label=label),
            queue=QUEUE,
            priority=self._request.priority or 0,
            run_at=self._now,
            waiting_for=(),
            hold=False,
            now=self._now,
        )


def variables(event: Event, about: Job | None) -> dict[str, str]:
    """The variables that tell a command its event."""
    found = {
        "": event.event,
        "_JOB": event.job,
        "_STATE": event.state,
        "_EXIT_CODE": "" if event.exit_code is None else str(event.exit_code),
        "_QUEUE": event.queue,
        "_BATCH": event.batch or "",
        "_LABEL": label_of(about.spec) if about else "",
    }
    return {f"QUEUECTL_EVENT{name}": value for name, value in found.items()}


def delivery(hook: Definition) -> Mapping[str, Any]:
    """The template of a webhook: 12 retries, after 5 s at first, doubling to an hour."""
    words = [f"--url={hook.url}", f"--timeout={format_duration(hook.timeout)}"]
    words += [f"--secret={hook.secret}"] if hook.secret else []
    words += [f"--header={name}:{text}" for name, text in hook.headers.items()]
    words += [f"--proxy={hook.proxy}"] if hook.proxy else []
    return {
        "argv": [*DELIVER, *words],
        "cwd": "/",
        "timeout": format_duration(hook.timeout + AFTER_TIMEOUT),
        "kill_grace": "1s",
        "max_retries": RETRIES,
        "backoff_base": 2.0,
        "backoff_factor": "2500ms",
        "backoff_max": "1h",
        "jitter": 0.0,
        "no_retry_codes": [GONE],
    }
