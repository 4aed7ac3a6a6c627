"""What the query of a list or a count selects, and what a header says about a version."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from queuectl.config import nearest
from queuectl.domain.job import Job
from queuectl.domain.quantity import parse_duration, seconds
from queuectl.domain.query import Filter
from queuectl.domain.where import parse
from queuectl.errors import Changed, InvalidInput
from queuectl.http.call import Call, Reply, digest
from queuectl.http.redaction import redacted
from queuectl.service import shapes
from queuectl.service.listing import states_of
from queuectl.service.matching import Wanted
from queuectl.service.shapes.jobs import JOB
from queuectl.service.times import parse_since

LONGEST_WAIT = 60.0
"""Seconds for which an answer is delayed at most, because its request prefers to wait."""

_TAG = re.compile(r'"([0-9]{1,18})(?:-[0-9a-f]+)?"')


class Shorthands(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The conditions that a list and a count of jobs know; a job has to match all that are given."""

    where: Annotated[str | None, Meta(description="a filter, for example `state:dead exit:1`")] = None
    state: Annotated[str | None, Meta(description="one state, or several with commas between")] = None
    queue: str | None = None
    tag: str | None = None
    batch: str | None = None
    key: Annotated[str | None, Meta(description="the unique key")] = None
    since: Annotated[str | None, Meta(description="created since this time, or within this duration")] = None
    ended_before: Annotated[
        str | None, Meta(description="ended before this time, or longer ago than this duration")
    ] = None


def wanted_of(call: Call, asked: Shorthands) -> Wanted:
    """The jobs that these conditions select. Raises InvalidInput."""
    given = _filter_of(call, asked)
    return given if asked.where is None else parse(asked.where, call.queue.now()).within(given)


def _filter_of(call: Call, asked: Shorthands) -> Filter:
    return Filter(
        states=states_of(word.strip() for word in asked.state.split(",")) if asked.state else frozenset(),
        queue=asked.queue,
        tag=asked.tag,
        batch=asked.batch,
        unique_key=asked.key,
        created_since=time_of(call, asked.since),
        ended_before=time_of(call, asked.ended_before),
    )


def duration_of(given: float | str) -> timedelta:
    """A duration that a body gives as seconds or as text. Raises InvalidInput."""
    return parse_duration(given) if isinstance(given, str) else seconds(given)


def time_of(call: Call, text: str | None) -> datetime | None:
    """A time, or a duration before now."""
    return parse_since(text, call.queue.now()) if text else None


def fields_of(text: str | None) -> Sequence[str]:
    """The keys of a job that are wanted; empty for all. Raises InvalidInput with the nearest key."""
    words = [word.strip() for word in text.split(",")] if text else []
    for word in words:
        if word not in JOB.keys:
            raise InvalidInput(f"a job has no field {word!r}", nearest(word, JOB.keys))
    return words


def shown_job(call: Call, job: Job, fields: Sequence[str] = ()) -> dict[str, Any]:
    """The object of a job as this caller may see it; with `fields` only these keys."""
    whole = shapes.job(job)
    return redacted(call.caller, job.queue, {name: whole[name] for name in fields} if fields else whole)


def added_job(call: Call, id: str) -> Reply:
    """The answer for one new job, with its address."""
    job = call.queue.get([id])[id]
    shown = {"id": id, "number": job.number, "state": job.state, "existing": False}
    return Reply(shapes.document(jobs=[shown]), 201, {"Location": f"{call.server.root}/v1/jobs/{id}"})


def expected_version(call: Call) -> int | None:
    """The version in `If-Match`; None if any version is right. Raises Changed for a tag that nothing here has."""
    tag = call.headers.get("if-match", "*").strip()
    if tag == "*":
        return None
    found = _TAG.fullmatch(tag)
    if found is None:
        raise Changed(
            f"If-Match: {tag[:40]} is the version of nothing here", 'send one ETag, for example "3"'
        )
    return int(found[1])


def of_entry(document: Mapping[str, Any], version: int) -> Reply:
    """The reply with an entry of a shared table, tagged with its version.

    The tag also has a digest, because the document shows more than the entry, such as the jobs of a queue.
    """
    tag = f'"{version}-{digest(msgspec.json.encode(document))}"'
    return Reply(document, headers={"ETag": tag}, etag=tag)


def preferred_wait(call: Call) -> float | None:
    """The seconds of `Prefer: wait=N`, at most a minute; None without it."""
    for word in call.headers.get("prefer", "").split(","):
        name, _, value = word.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdecimal():
            return min(float(value[:9]), LONGEST_WAIT)
    return None


def etag(job: Job) -> str:
    """The tag of this version of a job."""
    return f'"{job.version}"'
