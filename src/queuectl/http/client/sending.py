"""Enqueues jobs over HTTP. The ids are made here, before the first byte is sent, so that a repeated request is safe."""

import os
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.ids import is_made, make_id
from queuectl.domain.instant import format_instant, parse_instant
from queuectl.errors import InvalidInput, OutcomeUnknown, QueuectlError
from queuectl.http.client.channel import Channel
from queuectl.http.client.decoding import understood
from queuectl.service import shapes
from queuectl.service.enqueueing import Enqueued
from queuectl.service.merge import merge
from queuectl.service.request.checks import bytes_of, is_text
from queuectl.service.request.fields import Bytes, JobRequest, text_of
from queuectl.service.request.own_policy import own_policy
from queuectl.service.request.spec import Defaults, spec_of
from queuectl.service.shapes.faults import fault_of
from queuectl.service.times import read_time

JOBS, BYTES = 1000, 8 * 1024**2
"""Jobs in one request, and bytes after which a request is full. The server commits one request at once."""

NUL = rb"\u0000"
OnInvalid = Callable[[InvalidInput], None]


class Completion:
    """Completes requests with what only this client knows.

    settings  this client's own settings
    cwd       the working directory of requests that name none; None: the server's
    now       the time of the server's clock
    """

    def __init__(self, settings: Settings, cwd: str | None, now: Callable[[], datetime]) -> None:
        self._settings, self._cwd, self._now = settings, cwd, now
        self._policy = own_policy(settings)
        self._made_at = datetime.now(UTC)
        # The ids of one call are consecutive, so that they sort in the order of the call.
        self._random_number = int.from_bytes(random_bytes(8)) >> 5

    def complete(self, request: JobRequest) -> JobRequest:
        """The request with an id, and without anything that means something else on the server. Raises InvalidInput."""
        id = request.id
        if id is None:
            self._random_number += 1
            id = make_id(self._made_at, self._random_number)
        cwd = self._cwd if request.cwd is None else os.path.join(self._cwd or "", request.cwd)
        done = replace(
            request,
            id=id,
            cwd=cwd,
            run_at=self._start(request.run_at),
            scheduled_at=self._start(request.scheduled_at),
        )
        return merge(self._policy, done)

    def encode(self, request: JobRequest) -> bytes:
        """The JSON of a complete request. Raises InvalidInput for text that JSON cannot carry, or no store keeps."""
        stdin = text_of(request)
        if stdin is not None and not is_text(stdin):
            request = replace(request, stdin=Bytes(b2a_base64(bytes_of(stdin), newline=False).decode()))
        try:
            encoded = msgspec.json.encode(request)
        except UnicodeEncodeError as error:
            self._check(request)
            raise InvalidInput("the request has bytes that are not UTF-8") from error
        if NUL in encoded:
            self._check(request)
        return encoded

    def _check(self, request: JobRequest) -> None:
        """Check the request as the server would. The error names the field, which the JSON of the server cannot."""
        spec_of(replace(request, stdin=None), Defaults(self._settings, self._cwd))

    def _start(self, text: str | None) -> str | None:
        """A time of day, or a time without a zone, as a time in UTC: it is meant in the zone of this host."""
        if text is None or text.strip().lower() == "now" or text.lstrip().startswith("@"):
            return text
        try:
            if parse_instant(text.strip()).tzinfo:
                return text
        except InvalidInput:
            pass
        return format_instant(read_time(text, self._now()).at)


class How(NamedTuple):
    """How the jobs are stored, and what the results have: the options of `Queue.enqueue`."""

    on_invalid: OnInvalid | None = None
    dry_run: bool = False
    whole: bool = False

    @property
    def query(self) -> dict[str, Any]:
        """The options as query parameters."""
        return {
            "invalid": "skip" if self.on_invalid else None,
            "dry_run": 1 if self.dry_run else None,
            "whole": 1 if self.whole and not self.dry_run else None,
        }


def enqueue(
    channel: Channel, requests: Sequence[JobRequest], completion: Completion, how: How
) -> list[Enqueued]:
    """Enqueue the jobs, a thousand in each commit. Returns the result for each request, in order."""
    complete = dict[int, bytes]()
    for index, request in enumerate(requests):
        try:
            complete[index] = completion.encode(completion.complete(request))
        except InvalidInput as error:
            error.index = index
            if how.on_invalid is None:
                raise
            how.on_invalid(error)
    found: list[Enqueued] = []
    for step in _steps(complete):
        found += _step(channel, step, how)
    return found


def _steps(encoded: Mapping[int, bytes]) -> Iterator[dict[int, bytes]]:
    """The requests in parts that each fit into one HTTP request."""
    step, size = dict[int, bytes](), 0
    for index, each in encoded.items():
        if step and (len(step) == JOBS or size + len(each) > BYTES):
            yield step
            step, size = {}, 0
        step[index] = each
        size += len(each) + 1
    if step:
        yield step


def _step(channel: Channel, step: Mapping[int, bytes], how: How) -> Sequence[Enqueued]:
    indexes = list(step)
    body = b'{"jobs":[' + b",".join(step.values()) + b"]}"
    try:
        answer = channel.call(
            "POST", "/v1/jobs", query=how.query, body=body, changes=not how.dry_run, handled=(409,)
        )
        if answer.unhandled and "refused" not in answer.document:
            raise answer.unhandled
    except InvalidInput as error:
        if error.index is not None:
            error.index = indexes[error.index]
        raise
    except OutcomeUnknown as unknown:
        unknown.ids = tuple(msgspec.json.decode(each, type=_Id).id for each in step.values())
        raise
    with understood(channel):
        found = list(_results(answer.document, indexes, how))
    return [_added_first(item) for item in found] if answer.repeated else found


def _added_first(item: Enqueued) -> Enqueued:
    """The result of a repeated request: a job that exists under an id of ours was added by the first request."""
    return replace(item, status="added") if item.existing and is_made(item.stored.id) else item


class _Id(msgspec.Struct):
    id: str


def _results(document: Mapping[str, Any], indexes: Sequence[int], how: How) -> Iterator[Enqueued]:
    """The results of one request, in order: the answer lists the stored jobs and the refused ones apart."""
    stored = iter(document["jobs"])
    refused = {each["index"]: each for each in document.get("refused", ())}
    for position, index in enumerate(indexes):
        if position not in refused:
            shown = next(stored)
            yield Enqueued(shapes.job_of(shown)) if how.dry_run else shapes.enqueued_of(shown)
            continue
        error: QueuectlError = fault_of(refused[position]["error"])
        if isinstance(error, InvalidInput) and how.on_invalid:
            error.index = index
            how.on_invalid(error)
        else:
            yield shapes.enqueued_of(refused[position])
