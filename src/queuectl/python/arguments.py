"""Converts arguments of the Python API into values of the service."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from queuectl.domain.ids import is_number
from queuectl.domain.instant import in_range
from queuectl.domain.quantity import parse_duration, seconds
from queuectl.errors import InvalidInput
from queuectl.python.values import Job
from queuectl.service.request.fields import JobRequest, convert_request
from queuectl.service.times import read_time

Reference = Job | str | int
"""A job: a `Job`, an id (or a unique prefix of a generated id), or a number."""
Duration = timedelta | float | str
"""A `timedelta`, seconds, or text like `5m`."""
Command = str | Sequence[str]
"""A command for `/bin/sh`, or a program with its arguments, which is run without a shell."""

_SPANS = ("timeout", "kill_grace", "delay", "backoff_factor", "backoff_max")


def request_of(command: Command | None, fields: Mapping[str, Any]) -> JobRequest:
    """A request with the fields that are not None. Raises InvalidInput."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "retries" in given:
        given["max_retries"] = given.pop("retries")
    if command is not None:
        given |= {"command": command} if isinstance(command, str) else {"argv": list(command)}
    for name in _SPANS:
        if isinstance(value := given.get(name), timedelta):
            given[name] = value.total_seconds()
    for name in ("tags", "no_retry_codes", "argv"):
        if name in given:
            given[name] = list(given[name])
    if isinstance(run_at := given.get("run_at"), datetime):
        given["run_at"] = _aware("run_at", run_at).isoformat()
    if isinstance(stdin := given.get("stdin"), bytes):
        given["stdin"] = stdin.decode("utf-8", "surrogateescape")
    if "cwd" in given:
        given["cwd"] = os.path.abspath(given["cwd"])
    return convert_request(given)


def reference_of(job: Reference) -> str:
    """The reference for a job. The id of a `Job` always means this job, even if the id looks like a number."""
    if isinstance(job, Job):
        return str(job.number) if is_number(job.id) else job.id
    return str(job)


def span_of(name: str, value: Duration | None) -> timedelta | None:
    """A duration. Raises InvalidInput."""
    if value is None or isinstance(value, timedelta):
        return value
    try:
        return parse_duration(value) if isinstance(value, str) else seconds(value)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.message}", error.hint) from error


def words_of(value: str | Iterable[str] | None) -> list[str]:
    """One word or several."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def several(jobs: Reference | Iterable[Reference]) -> Iterable[Reference]:
    """One job or several. A `str` is one reference, although it is iterable."""
    return [jobs] if isinstance(jobs, Reference) else jobs


def time_of(name: str, value: datetime | str, now: datetime) -> datetime:
    """A time. Raises InvalidInput."""
    if isinstance(value, str):
        return read_time(value, now).at
    return in_range(_aware(name, value).astimezone(UTC))


def since_of(name: str, value: Duration | datetime, now: datetime) -> datetime:
    """A time, or a duration before now. Raises InvalidInput."""
    if isinstance(value, datetime):
        return time_of(name, value, now)
    span = span_of(name, value)
    assert span is not None
    return in_range(now - span)


def _aware(name: str, at: datetime) -> datetime:
    if at.tzinfo is None:
        raise InvalidInput(f"{name}: {at} has no time zone", "for local time: at.astimezone()")
    return at
