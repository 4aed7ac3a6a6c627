"""Writes the jobs of a store with their output, its settings, queues and schedules as one segment.

A job is a consistent value, but the whole is not one moment while workers run. Secrets are not exported.
"""

import base64
from collections.abc import Iterator, Sequence

from queuectl.domain.job import Attempt, Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Found, Page
from queuectl.domain.where import EVERY, Where
from queuectl.service import attempts, shapes
from queuectl.service.maintenance import PROBE
from queuectl.service.shapes.output import STREAM_NAMES
from queuectl.service.transfer import entries
from queuectl.service.transfer.segment import SegmentWriter
from queuectl.service.transfer.tally import Exported
from queuectl.store.protocol import Store, Table

PAGE, FIRST_PAGE = 500, 50
"""The most jobs that are in memory, and those of the first page."""
PAGE_BYTES = 4 << 20
"""About the most bytes of the jobs that are in memory, as lines. Long jobs are read in smaller pages."""
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

    A step is a job, a chunk of output, or the end of a page. So a caller that sends the lines on has few of them in
    memory. Jobs that are added meanwhile are left out, so an export ends.
    """
    done.counts = writer.counts
    if where is None:
        _write_tables(store, writer, TABLES)
    yield from _export_jobs(store, writer, done, where, output)
    if where is None:
        _write_tables(store, writer, SCHEDULES)
    done.sha256 = writer.end(done.left_out)


def write_job(store: Store, writer: SegmentWriter, job: Job, *, output: bool = True) -> Iterator[int]:
    """Write a job, and its output right after it. Yields 1 after the job, and 0 after each chunk."""
    writer.add("job", job=shapes.job(job))
    yield 1
    for attempt_id, total in _attempts_with_output(job) if output else ():
        for chunk in _chunks(store, attempt_id, total):
            writer.add("output", **_shown(chunk))
            yield 0


def _export_jobs(
    store: Store, writer: SegmentWriter, done: Exported, where: Where | None, output: bool
) -> Iterator[int]:
    """Write the jobs page by page, up to the greatest number that is assigned at the start."""
    for found, high in _pages(store, writer, where):
        jobs = [job for job in found.jobs if job.number <= high and (where is None or where.matches(job))]
        for job in jobs:
            if not job.is_arriving:
                yield from write_job(store, writer, job, output=output)
        done.left_out += [job.id for job in jobs if job.is_arriving]
        done.left_out += [each.id for each in found.unreadable if each.number <= high]
        yield 0


def _pages(store: Store, writer: SegmentWriter, where: Where | None) -> Iterator[tuple[Found, int]]:
    """The jobs that may match, with the greatest number of the export. A page is smaller if its jobs are long."""
    wanted, (low, high) = (where.filter, where.numbers) if where else (Filter(), EVERY)
    high = min(high, store.last_number())
    cursor, limit = (str(low - 1) if low > 0 else None), FIRST_PAGE
    while low <= high:
        before = writer.sizes["job"]
        found = store.find(wanted, Page(limit=limit, after=cursor, sort="number"))
        yield found, high
        cursor, size = found.next, writer.sizes["job"] - before
        if cursor is None or int(cursor) >= high:
            return
        limit = max(1, min(PAGE, 2 * limit, limit * PAGE_BYTES // max(size, 1)))


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
