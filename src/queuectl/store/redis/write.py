"""Adds and changes jobs. Each batch is one script; a large batch is one script for each piece."""

from collections.abc import Sequence
from itertools import starmap
from typing import Literal

from msgspec.structs import replace

from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.store.driver import codec, verdict
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.protocol import Added
from queuectl.store.redis import rows
from queuectl.store.redis.connect import Line

Swapped = SaveResult | Literal["absent", "past"]
"""The result of a script's save. `absent`: the job does not exist. `past`: the job is in the archive."""
AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
"""Maximum number of jobs and bytes in one script. A running script blocks all other clients."""


class NumberFloorUnknown(Exception):
    """The server may have lost numbers of archived jobs: first the greatest number of the archive must be read."""


def add(line: Line, jobs: Sequence[Job], now: str, events: Sequence[Event | None] = ()) -> list[Added]:
    """Insert the jobs whose ids are absent, in a queue without an archive."""
    return [added for added in try_add(line, jobs, now, events) if added is not None]


def try_add(
    line: Line, jobs: Sequence[Job], now: str, events: Sequence[Event | None] = ()
) -> list[Added | None]:
    """Insert the jobs whose ids are absent. The result is None for an archived id. Raises NumberFloorUnknown."""
    answers = list[Added | None]()
    for batch in rows.batches(
        list(starmap(rows.new, rows.with_events(jobs, events))), AT_ONCE, BYTES_AT_ONCE
    ):
        added, said = jobs[len(answers) : len(answers) + len(batch)], line.run("add", now, *batch)
        if said == b"unsure":
            raise NumberFloorUnknown
        answers += [_added(job, *answer) for job, answer in zip(added, said, strict=True)]
    return answers


def _added(job: Job, what: bytes, answer: object = None) -> Added | None:
    if what == b"past":
        return None
    if what == b"added":
        return Added("added", replace(job, number=int(answer)))  # type: ignore[call-overload]
    found, damaged = codec.sift([answer], rows.job)
    if damaged:
        return verdict.unreadable(job, damaged[0])
    return Added("duplicate", found[0]) if what == b"taken" else verdict.known(job, found[0])


def save(line: Line, jobs: Sequence[Job], now: str, events: Sequence[Event | None] = ()) -> list[SaveResult]:
    """Compare-and-swap on the version."""
    return [without_archive(result) for result in try_save(line, jobs, now, events)]


def try_save(line: Line, jobs: Sequence[Job], now: str, events: Sequence[Event | None] = ()) -> list[Swapped]:
    """Compare-and-swap on the version. The result may also be `absent` or `past`."""
    answers = list[Swapped]()
    for batch in rows.batches(
        list(starmap(rows.changed, rows.with_events(jobs, events))), AT_ONCE, BYTES_AT_ONCE
    ):
        answers += [swapped(word) for word in line.run("save", now, *batch)]
    return answers


def swapped(word: bytes) -> Swapped:
    """The result for a word that a script returns."""
    if word.isdigit():
        return int(word)
    return "duplicate" if word == b"taken" else word.decode()  # type: ignore[return-value]


def without_archive(result: Swapped) -> SaveResult:
    """The result of `save` without an archive: `absent` and `past` both mean `stale`."""
    return "stale" if result == "absent" or result == "past" else result
