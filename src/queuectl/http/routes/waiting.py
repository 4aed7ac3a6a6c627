"""Wait until jobs have ended."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Annotated

from msgspec import Meta, Struct

from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput, NotFound
from queuectl.http.call import Call, Reply
from queuectl.http.routes.jobs import MANY, Reference
from queuectl.http.routes.selecting import duration_of
from queuectl.http.server_state import WAITERS
from queuectl.http.table import Route
from queuectl.http.threads import in_time
from queuectl.service import shapes
from queuectl.service.shapes.record import document

LONGEST = 55
SLICE = 1.0
"""Seconds for which a thread waits at once: then it looks whether the server ends, and others get a turn."""
AGAIN = 0.25
"""Seconds between two looks if more requests wait than there are threads for them."""
OBSTACLES_OF = 100
"""Jobs whose obstacles are looked up."""


class Inside(Struct, frozen=True, forbid_unknown_fields=True):
    """The job whose command waits. The wait is refused if the jobs cannot end before this job ends.

    queues  the queues of the jobs that wait to run; null for those of the given jobs
    """

    job: Reference
    attempt_id: str | None = None
    queues: Annotated[list[str], Meta(max_length=MANY)] | None = None


class Wait(Struct, frozen=True, forbid_unknown_fields=True):
    """The jobs: by their ids, their batch or a filter.

    any      until one of them has ended
    timeout  seconds after which the answer comes in any case
    """

    ids: Annotated[list[Reference], Meta(max_length=MANY)] | None = None
    batch: str | None = None
    where: str | None = None
    any: bool = False
    timeout: Annotated[float, Meta(ge=0, le=LONGEST)] | str = LONGEST
    inside: Inside | None = None


async def wait(call: Call) -> Reply:
    """The jobs once they have ended, or the time is over."""
    ids = await in_time(call.server, _meant, call)
    call.server.waiting += 1
    try:
        done, jobs = await _until_done(call, ids)
    finally:
        call.server.waiting -= 1
    still = [job for job in jobs.values() if not job.ended]
    obstacles = [] if done else await in_time(call.server, call.queue.obstacles, still[:OBSTACLES_OF])
    shown = [shapes.waited(jobs[id]) for id in ids if id in jobs]
    missing = [id for id in ids if id not in jobs]
    return Reply(
        document(done=done, jobs=shown, missing=missing, waiting=len(still), obstacles=list(obstacles))
    )


def _meant(call: Call) -> Sequence[str]:
    """The ids to wait for. Raises Conflict if the caller would wait for itself."""
    asked: Wait = call.body
    if duration_of(asked.timeout) > timedelta(seconds=LONGEST):
        raise InvalidInput(
            f"timeout: may be at most {LONGEST} s", "send the request again when the time is over"
        )
    if sum(each is not None for each in (asked.ids, asked.batch, asked.where)) != 1:
        raise InvalidInput("either ids, batch or where is expected", 'for example {"ids": ["…"]}')
    ids: Sequence[str] = list(dict.fromkeys(asked.ids or ()))
    if asked.batch is not None and not (ids := call.queue.ids(Filter(batch=asked.batch))):
        raise NotFound(f"there is no job in batch {asked.batch!r}")
    if asked.where is not None:
        ids = call.queue.ids(parse(asked.where, call.queue.now()))
    if asked.inside:
        _refuse_to_wait(call, asked.inside, ids)
    return ids


def _refuse_to_wait(call: Call, inside: Inside, ids: Sequence[str]) -> None:
    """Raise Conflict if the wait would last for ever, unless the end of another job ends it."""
    own = call.queue.running_job(inside.job, inside.attempt_id)
    if own and (not call.body.any or set(ids) == {own.id}):
        call.queue.refuse_to_wait(own, ids, inside.queues)


async def _look(call: Call, ids: Sequence[str], left: float) -> Mapping[str, Job]:
    """The jobs when they have ended, or after a short time.

    If more requests wait than there are threads for them, each looks for a moment and then makes way.
    """
    is_crowded = call.server.waiting > WAITERS
    span = timedelta(seconds=0 if is_crowded else max(0.0, min(left, SLICE)))
    look = partial(call.queue.wait, ids, timeout=span, any_one=call.body.any)
    jobs = await asyncio.get_running_loop().run_in_executor(call.server.waiters, look)
    if is_crowded and left > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(call.server.ending.wait(), min(left, AGAIN))
    return jobs


async def _until_done(call: Call, ids: Sequence[str]) -> tuple[bool, Mapping[str, Job]]:
    """Whether the wait is over because of the jobs, and the jobs."""
    deadline = monotonic() + duration_of(call.body.timeout).total_seconds()
    while True:
        jobs = await _look(call, ids, deadline - monotonic())
        still = sum(1 for job in jobs.values() if not job.ended)
        done = not still or (call.body.any and still < len(ids))
        if done or call.server.ending.is_set() or monotonic() >= deadline:
            return done, jobs


ROUTES = (
    Route(
        method="POST",
        path="/v1/wait",
        scope="view",
        summary="Wait until jobs have ended, or the time is over",
        handler=wait,
        body=Wait,
        answers={200: "Waited"},
        errors=("not_found", "conflict"),
        reads=True,
    ),
)
