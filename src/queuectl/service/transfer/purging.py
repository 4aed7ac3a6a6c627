"""A purge that first writes the jobs to a file: each batch is appended, written to the disk, and only then deleted.

If it is killed, the jobs of one batch may be in the file and in the store; the same purge then writes them again.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from queuectl import crashpoint
from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.query import Filter
from queuectl.domain.where import EVERY, Where
from queuectl.service import maintenance, matching
from queuectl.service.matching import Wanted
from queuectl.service.operation import among
from queuectl.service.transfer.exporting import write_job
from queuectl.service.transfer.files import PurgeFile
from queuectl.service.transfer.segment import SegmentWriter
from queuectl.store.protocol import Store


def purge_to(store: Store, wanted: Wanted, path: str, source: str) -> Generator[int]:
    """Move all ended jobs that match into a file. Yields the number of deleted jobs for each batch."""
    meant = Where("", wanted, (), EVERY) if isinstance(wanted, Filter) else wanted
    maintenance.unblock_all(store)
    with closing(PurgeFile(path)) as file:
        for jobs in _batches(store, among(meant, TERMINAL)):
            with file.segment() as write:
                writer = SegmentWriter(write, source, store.now())
                for job in jobs:
                    for _ in write_job(store, writer, job):
                        pass
                crashpoint.reach("purge_written")
                writer.end()
            crashpoint.reach("purge_synced")
            maintenance.unblock_children(store, [job.id for job in jobs])
            yield len(maintenance.delete_ended(store, jobs))


def _batches(store: Store, where: Where) -> Iterator[Sequence[Job]]:
    for jobs, _ in matching.walk(store, where):
        if jobs:
            yield jobs
