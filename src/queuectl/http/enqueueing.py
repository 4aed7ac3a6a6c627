"""Stores the jobs of a request: decodes each item, makes its id, and adds up what became of it."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from queuectl.domain.ids import MADE
from queuectl.errors import InvalidInput
from queuectl.http.call import Call
from queuectl.http.problem import CODES, Refusal
from queuectl.http.redaction import redacted
from queuectl.service import shapes
from queuectl.service.enqueueing import Enqueued
from queuectl.service.request.fields import JobRequest, decode_request
from queuectl.service.shapes import faults

LONGEST_KEY = 128


class EnqueueOptions(Struct, frozen=True):
    """How the jobs of one HTTP request are stored.

    skip   store the valid ones although others cannot be jobs
    whole  the answer has whole jobs
    key    the `Idempotency-Key`
    """

    skip: bool = False
    dry_run: bool = False
    whole: bool = False
    key: str | None = None


class Tally(Struct):
    """What became of the items so far.

    refused  at most as many objects as the answer has; `refused_count` counts all
    first    why the first refused item was refused
    """

    jobs: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    added: int = 0
    existing: int = 0
    refused_count: int = 0
    first: dict[str, Any] | None = None


def idempotency_key(call: Call) -> str | None:
    """The header `Idempotency-Key`; None without it. Raises InvalidInput."""
    key = call.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"Idempotency-Key has to have 1 to {LONGEST_KEY} printable characters of ASCII",
            "for example a UUID",
        )
    return key


def idempotent_id(caller: str, key: str, index: int) -> str:
    """The id of the job at this position. The same caller with the same key gets the same ids."""
    return blake2b("\0".join((caller, key, str(index))).encode(), digest_size=MADE // 2).hexdigest()


def store(call: Call, items: Sequence[bytes], options: EnqueueOptions, *, first: int = 0) -> Tally:
    """Store the jobs of these items in one commit; the first has the position `first` in the HTTP request.

    Raises InvalidInput with `index` if one cannot be a job, unless invalid items are skipped. Then nothing is stored.
    """
    requests, invalid = _requests(call, items, options, first)
    tally, positions = Tally(), list(requests)

    def note(error: InvalidInput) -> None:
        invalid[positions[error.index or 0]] = error

    try:
        results = call.queue.enqueue(
            list(requests.values()),
            on_invalid=note if options.skip else None,
            dry_run=options.dry_run,
            whole=options.whole,
        )
    except InvalidInput as error:
        if error.index is not None:
            error.index = positions[error.index]
        raise
    stored = iter(results)
    for position in range(len(items)):
        index = first + position
        if position in invalid:
            _refuse(tally, {"index": index, "id": None, "error": faults.body(invalid[position])})
        else:
            _add(call, tally, next(stored), index, requests[position].id, options)
    return tally


def _requests(
    call: Call, items: Sequence[bytes], options: EnqueueOptions, first: int
) -> tuple[dict[int, JobRequest], dict[int, InvalidInput]]:
    """The requests of the items by position, and the errors of those that are none."""
    requests: dict[int, JobRequest] = {}
    invalid: dict[int, InvalidInput] = {}
    for position, item in enumerate(items):
        try:
            request = decode_request(item)
        except InvalidInput as error:
            error.index = position
            if not options.skip:
                raise
            invalid[position] = error
            continue
        if options.key is not None and request.id is None:
            request = replace(request, id=idempotent_id(call.caller.name, options.key, first + position))
        requests[position] = request
    return requests, invalid


def _add(
    call: Call, tally: Tally, item: Enqueued, index: int, id: str | None, options: EnqueueOptions
) -> None:
    if item.refused:
        _refuse(tally, _seen(call, shapes.refused(item, index=index, id=id, whole=options.whole)))
    elif options.dry_run:
        tally.jobs.append(redacted(call.caller, item.whole.queue, shapes.job(item.whole)))
    else:
        tally.jobs.append(_seen(call, shapes.enqueued(item, whole=options.whole)))
        tally.existing += item.existing
        tally.added += not item.existing


def _seen(call: Call, shown: dict[str, Any]) -> dict[str, Any]:
    """The result as this caller may see it: a whole job that has the id or the unique key may be in any queue."""
    job = shown.get("job")
    return shown if job is None else shown | {"job": redacted(call.caller, job["queue"], job)}


def _refuse(tally: Tally, shown: dict[str, Any]) -> None:
    tally.refused.append(shown)
    tally.refused_count += 1
    tally.first = tally.first or shown["error"]


def status_of(tally: Tally) -> int:
    """201 if a job is new, 200 if none is."""
    return 201 if tally.added else 200


def all_refused(tally: Tally, further: dict[str, Any]) -> Refusal:
    """The answer if no item was stored and none was stored before."""
    assert tally.first
    code = tally.first["code"] if CODES[tally.first["code"]].status == 409 else "conflict"
    more = "" if tally.refused_count == 1 else f" (and {tally.refused_count - 1} more)"
    return Refusal(code, tally.first["message"] + more, tally.first["hint"], status=409, further=further)
