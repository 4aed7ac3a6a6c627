"""Writes the jobs of a store with their output, its settings, queues and schedules as one segment.

A job is a consistent value, but the whole is not one moment while workers run. Secrets are not exported.
"""

import base64
from collections.abc import Iterator, Sequence

from queuectl.domain.job import Attempt, Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.domain.where import Where
from queuectl.service import attempts, shapes
from queuectl.service.maintenance import PROBE
from queuectl.service.shapes.output import STREAM_NAMES
from queuectl.service.transfer import entries
from queuectl.service.transfer.segment import SegmentWriter
from queuectl.service.transfer.tally import Exported
from queuectl.store.protocol import Store, Table

PAGE = 500
TABLES: tuple[tuple[str, Table], ...] = (("setting", "settings"), ("queue", "queues"))
SCHEDULES: tuple[tuple[str, Table], ...] = (("schedule", "schedules"),)
"""Schedules follow the jobs, so that an import has their jobs when a worker reads the schedules."""


def export(
    store: Store,
    writer: SegmentWriter,
    done: Exported,
    *,
    where: Where | None = None,
    output: bool = True,
) -> Iterator[int]:
    """Write everything. With `where`: only the jobs that match. Yields the number of jobs in each step.

    A step is a page of jobs, or a chunk of output. So a caller that sends the lines on has few of them in memory.
    """
    done.counts = writer.counts
    if where is None:
        _write_tables(store, writer, TABLES)
    yield from _export_jobs(store, writer, done, where, output)
    if where is None:
        _write_tables(store, writer, SCHEDULES)
    done.sha256 = writer.end(done.left_out)


def write_job(store: Store, writer: SegmentWriter, job: Job, *, output: bool = True) -> Iterator[int]:
    """Write a job, and its output right after it. Yields 0 after each chunk."""
    writer.add("job", job=shapes.job(job))
    for attempt_id, total in _attempts_with_output(job) if output else ():
        for chunk in _chunks(store, attempt_id, total):
            writer.add("output", **_shown(chunk))
            yield 0


def _export_jobs(
    store: Store, writer: SegmentWriter, done: Exported, where: Where | None, output: bool
) -> Iterator[int]:
    wanted, cursor = where.filter if where else Filter(), None
    while True:
        found = store.find(wanted, Page(limit=PAGE, after=cursor, sort="number"))
        jobs = [job for job in found.jobs if where is None or where.matches(job)]
        whole = [job for job in jobs if not job.is_arriving]
        for job in whole:
            yield from write_job(store, writer, job, output=output)
        done.left_out += [job.id for job in jobs if job.is_arriving]
        done.left_out += [each.id for each in found.unreadable]
        yield len(whole)
        if (cursor := found.next) is None:
            return


def _write_tables(store: Store, writer: SegmentWriter, tables: Sequence[tuple[str, Table]]) -> None:
    for kind, table in tables:
        for name, entry in sorted(store.read_table(table).items()):
            if entry.unreadable is None and name != PROBE and not entries.is_removed(kind, entry.value):
                writer.add(kind, name=name, value=entry.value)


def _attempts_with_output(job: Job) -> Iterator[tuple[str, int | None]]:
    """The attempts that may have output, with its size if that is known."""
    for past in job.history:
        if past.output_bytes or _was_lost(past):
            yield past.attempt_id, None if _was_lost(past) else past.output_bytes
    if job.lease:
        yield job.lease.attempt_id, None


def _was_lost(past: Attempt) -> bool:
    """Whether nobody counted the output of the attempt."""
    return past.outcome in ("lost", "fenced")


def _chunks(store: Store, attempt_id: str, total: int | None) -> Iterator[Chunk]:
    """The stored output of an attempt. The last chunk is known by the size, which saves a read for each attempt."""
    for chunk in attempts.output(store, attempt_id):
        yield chunk
        if chunk.offset + len(chunk.data) == total:
            return


def _shown(chunk: Chunk) -> dict[str, object]:
    return {
        "job": chunk.job_id,
        "attempt_id": chunk.attempt_id,
        "n": chunk.n,
        "stream": STREAM_NAMES[chunk.stream],
        "at": shapes.instant(chunk.at),
        "offset": chunk.offset,
        "data": base64.b64encode(chunk.data).decode(),
    }
