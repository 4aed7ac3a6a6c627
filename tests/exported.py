"""Exports and imports of a store inside this process, and what two stores have in common."""

import io
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.service import shapes
from queuectl.service.paging import pages
from queuectl.service.transfer.exporting import TABLES
from queuectl.service.transfer.exporting import _shown as shown_chunk
from queuectl.service.transfer.segment import SegmentWriter
from queuectl.service.transfer.tally import Imported
from queuectl.service.transfer.transfer import LocalTransfer
from queuectl.store.protocol import Store


def exported(store: Store, **options: Any) -> bytes:
    """The file that an export of the store writes."""
    file = io.BytesIO()
    for _ in LocalTransfer(store, lambda: store).export(file.write, **options):
        pass
    return file.getvalue()


def imported(store: Store, file: bytes, **options: Any) -> Imported:
    """Import a file that comes through a pipe."""
    found = LocalTransfer(store, lambda: store).read(io.BytesIO(file), **options)
    for _ in found:
        pass
    return found.done


def segment(jobs: Iterable[Job], chunks: Iterable[Chunk] = (), **at: Any) -> bytes:
    """A file with these jobs, each followed by its output."""
    file, output = io.BytesIO(), defaultdict[str, list[Chunk]](list)
    for chunk in chunks:
        output[chunk.job_id].append(chunk)
    writer = SegmentWriter(file.write, "test://", **at)
    for job in jobs:
        writer.add("job", job=shapes.job(job))
        for chunk in output[job.id]:
            writer.add("output", **shown_chunk(chunk))
    writer.end()
    return file.getvalue()


def contents(store: Store) -> dict[str, Any]:
    """All that an export has to keep: jobs as they are shown, their output, settings, queues and schedules.

    The version counts writes, and an import writes other times than a worker.
    """
    jobs = [job for found in pages(store, Filter(), 200) for job in found.jobs]
    shown = {
        job.id: {key: value for key, value in shapes.job(job).items() if key != "version"} for job in jobs
    }
    attempts = {past.attempt_id for job in jobs for past in job.history}
    return {
        "jobs": shown,
        "output": {id: found for id in attempts if (found := store.read_output(id, 0, 10_000))},
        **{
            table: {n: e.value for n, e in store.read_table(table).items()}
            for _, table in (*TABLES, ("", "schedules"))
        },
    }
