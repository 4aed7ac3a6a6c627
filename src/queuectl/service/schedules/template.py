"""The template of a schedule's job: completed and checked as a request when it is stored, and made a job when it fires.

The working directory and the policy of the client are stored with the template, as a client of a server sends them.
The store's shared settings are read when the schedule fires.
"""

from binascii import b2a_base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from queuectl import config
from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.firing import PlannedJob
from queuectl.domain.job import Job, Parent, Spec
from queuectl.domain.names import check_name
from queuectl.errors import InvalidInput
from queuectl.service.merge import merge
from queuectl.service.request.checks import bytes_of, is_text
from queuectl.service.request.fields import Bytes, JobRequest, convert_request, text_of
from queuectl.service.request.own_policy import own_policy
from queuectl.service.request.spec import Defaults, spec_of
from queuectl.store.protocol import Store

_COMMANDS = ("command", "argv", "payload")


def completed(job: Mapping[str, Any], settings: Settings, cwd: str | None) -> dict[str, Any]:
    """The template with the working directory and the policy of this client, checked. Raises InvalidInput."""
    request = merge(own_policy(settings), convert_request(job))
    spec = spec_of(request, Defaults(settings, cwd))
    return checked(_builtins(replace(request, cwd=spec.cwd)))


def merged(job: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The template with other values for some keys. A new command replaces the old one in any of its three forms."""
    kept = {key: value for key, value in job.items() if key not in _COMMANDS} if _names_one(changes) else job
    return {**kept, **changes}


def checked(job: dict[str, Any]) -> dict[str, Any]:
    """The template, if it is a valid request. Raises InvalidInput that names the key."""
    parts(job, config.resolve({}, {}, {}, {}))
    return job


def shared_settings(store: Store) -> Settings:
    """The settings with which a schedule fires: those of the store, whatever the worker's own are."""
    entries = {key: entry.value for key, entry in store.read_table("settings").items()}
    return config.resolve({}, {}, {}, config.stored(entries))


class Maker:
    """Makes the jobs of one template. The template is checked once, and raises InvalidInput if it is not valid."""

    def __init__(self, schedule: str, job: Mapping[str, Any], settings: Settings, now: datetime) -> None:
        self._schedule, self._now = schedule, now
        self._request, self._spec = parts(job, settings)

    @property
    def size(self) -> int:
        """The number of bytes of the spec as JSON, about."""
        return len(msgspec.json.encode(self._spec))

    def job(self, planned: PlannedJob, states: Mapping[str, Any]) -> Job:
        """The job of an instant. `states`: the states of the jobs after which it runs, as far as they exist."""
        request = self._request
        spec = replace(
            self._spec,
            schedule=self._schedule,
            instant=planned.instant,
            after=tuple(Parent(id, "any") for id in planned.after),
        )
        made = lifecycle.enqueue(
            id=planned.id,
            spec=spec,
            queue=request.queue or "default",
            priority=request.priority or 0,
            run_at=planned.run_at,
            waiting_for=planned.after,
            hold=bool(request.hold),
            now=self._now,
        )
        return lifecycle.with_parents(made, states)


def parts(job: Mapping[str, Any], settings: Settings) -> tuple[JobRequest, Spec]:
    """The request and the spec of a template. Raises InvalidInput that names the key."""
    request = convert_request(job)
    if request.queue is not None:
        check_name("queue", request.queue)
    return request, spec_of(request, Defaults(settings, None))


def _builtins(request: JobRequest) -> dict[str, Any]:
    """The given fields of a request as JSON values. Standard input that is not UTF-8 is written as base64."""
    stdin = text_of(request)
    if stdin is not None and not is_text(stdin):
        request = replace(request, stdin=Bytes(b2a_base64(bytes_of(stdin), newline=False).decode()))
    found: dict[str, Any] = msgspec.to_builtins(request)
    try:
        msgspec.json.encode(found)
    except UnicodeEncodeError as error:
        raise InvalidInput("job: has bytes that are not UTF-8") from error
    return {key: value for key, value in found.items() if value is not None}


def _names_one(changes: Mapping[str, Any]) -> bool:
    return any(key in changes for key in _COMMANDS)
