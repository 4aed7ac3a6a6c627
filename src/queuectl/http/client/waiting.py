"""Waits for jobs over HTTP. The server answers when they have ended, or after at most 50 s: every proxy allows that."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.http.client import reading
from queuectl.http.client.channel import Channel

FIRST_STEP, LONGEST_STEP = 2.0, 50.0
"""Seconds of one request. They grow with the time that has passed, because `look` is called between two of them."""

JOBS = 1000
"""Jobs in one request."""

LOOKED_AT = 5
"""Jobs that `look` gets in each round."""

Look = Callable[[Sequence[Job], int], None]


def wait(
    channel: Channel, ids: Sequence[str], *, timeout: timedelta | None, any_one: bool, look: Look
) -> dict[str, Job]:
    """The jobs once all of them (or one, with `any_one`) have ended, or the time is over."""
    begun = boottime()
    deadline = None if timeout is None else begun + timeout.total_seconds()
    parts = [list(ids[start : start + JOBS]) for start in range(0, len(ids), JOBS)]
    left, step = len(ids), 0.0
    while parts:
        document = ask(channel, parts[0], step, any_one)
        left = document["waiting"] + sum(map(len, parts[1:]))
        if document["done"] and any_one:
            break
        if document["done"]:
            parts.pop(0)
            continue
        if any_one and len(parts) > 1:  # each part has to be asked, and none for long
            parts.append(parts.pop(0))
        look(list(reading.get(channel, _waiting(document)).values()), left)
        now = boottime()
        if deadline is not None and now >= deadline:
            break
        step = min(max(FIRST_STEP, (now - begun) / 4), LONGEST_STEP)
        if any_one and len(parts) > 1:
            step = 0.5
        if deadline is not None:
            step = min(step, deadline - now)
    return reading.get(channel, ids)


def _waiting(document: Mapping[str, Any]) -> list[str]:
    return [job["id"] for job in document["jobs"] if job["outcome"] is None][:LOOKED_AT]


def ask(channel: Channel, ids: Sequence[str], seconds: float, any_one: bool) -> dict[str, Any]:
    """The answer of the server once the jobs have ended, or after so many seconds."""
    body = {"ids": ids, "any": any_one, "timeout": round(seconds, 3)}
    return channel.call("POST", "/v1/wait", body=body, changes=False, timeout=seconds + 30).document


def obstacles(channel: Channel, jobs: Sequence[Job]) -> list[str]:
    """The reasons why these jobs do not run."""
    if not any(not job.ended and job.lease is None for job in jobs):
        return []
    return list(ask(channel, [job.id for job in jobs], 0, any_one=False)["obstacles"])


def refuse(channel: Channel, own: Job, ids: Sequence[str], queues: Sequence[str] | None) -> None:
    """Raise Conflict if these jobs cannot end while `own` runs."""
    inside = {"job": own.id, "attempt_id": own.attempt_id, "queues": queues}
    body = {"ids": list(ids)[:JOBS], "timeout": 0, "inside": inside}
    channel.call("POST", "/v1/wait", body=body, changes=False)
