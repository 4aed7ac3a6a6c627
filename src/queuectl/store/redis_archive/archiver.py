"""Moves ended jobs from the queue to the archive: writes the copies, then lets the queue commit (`lifecycle.py`).

Each worker has an archiver in a thread of its own, and any of them can do the work alone. If one dies, another finds
its entries in the stream and repeats its steps. While the archive cannot be reached, the stream grows, and nothing
else changes.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from queuectl.clock import random_bytes
from queuectl.domain.output import Chunk
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.store.redis_archive import lock
from queuectl.store.redis_archive.audit import Audit
from queuectl.store.redis_archive.transfer import Restored, StreamEntry, Transfer

if TYPE_CHECKING:
    from queuectl.store.redis_archive.archive import Archive

AT_ONCE = 200
IDLE_MS = 1000
"""Milliseconds that the server waits for new entries before it replies."""
RETRY_AFTER = 2.0
"""Seconds until an archive that could not be reached is tried again."""
BYTES_AT_ONCE = 4 << 20
"""Maximum bytes of output in one write to the archive."""


class Archiver:
    """Archives one batch after the other. The archive is opened at its first use."""

    def __init__(self, queue: Transfer, open_archive: Callable[[], "Archive"]) -> None:
        self._queue, self._open_archive = queue, open_archive
        self._name = random_bytes(8).hex()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def _archive(self) -> "Archive":
        return self._open_archive()

    @cached_property
    def _audit(self) -> Audit:
        return Audit(self._queue, self._archive, self._stopped)

    def start(self) -> None:
        """Start a thread that archives jobs. Idempotent."""
        if self._thread is None:
            self._archive.is_watched = True
            self._thread = threading.Thread(target=self._run, name="queuectl-archiver", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the current answer of a server."""
        self._stopped.set()

    def finish(self, within: float) -> None:
        """Archive the jobs that have ended so far, then end. This may be the last worker."""
        self.stop()
        if self._thread is None or self._archive.fault is not None:
            return
        deadline = time.monotonic() + within
        with suppress(StoreError, OutcomeUnknown):  # after an error the next worker archives these jobs
            if self._queue.waiting():
                self._thread.join(within)
                while time.monotonic() < deadline and self.archive_batch():
                    pass

    def archive_batch(self, wait_ms: int = 0) -> int:
        """Archive one batch. Returns its number of entries."""
        entries = self._queue.read_entries(self._name, AT_ONCE, wait_ms=wait_ms)
        if entries:
            jobs, damaged = self._queue.ended_jobs(entries)
            self._put_output([job.number for job in jobs])
            too_large = self._archive.put(jobs, self._queue.fresh_number)
            stay = {job.number for job in too_large} | {each.number for each in damaged}
            self._commit([each for each in entries if each.number not in stay])
            self._keep_live([each for each in entries if each.number in stay])
        return len(entries)

    def finish_all(self) -> None:
        """Complete restores and deletions that another process has begun and not completed."""
        self.finish_restores(self._queue.restoring())
        self.finish_deletes(self._queue.deleting())

    def finish_restores(self, jobs: Sequence[Restored]) -> None:
        """Delete the copies of restored jobs. After this the jobs may be claimed."""
        for start in range(0, len(jobs), AT_ONCE):
            batch = jobs[start : start + AT_ONCE]
            self._archive.delete_below([(job.number, job.id, job.version) for job in batch])
            self._queue.restore_done(batch)

    def finish_deletes(self, jobs: dict[int, str]) -> None:
        """Delete the copies of deleted jobs (given by number and id)."""
        if jobs:
            self._archive.delete(jobs)
            self._queue.delete_done(jobs)

    def _put_output(self, numbers: Sequence[int]) -> None:
        """Write the output of these jobs, in parts of limited size."""
        part: list[tuple[int, Chunk]] = []

        def keep(chunks: list[tuple[int, Chunk]]) -> None:
            part.extend(chunks)
            if sum(len(chunk.data) for _, chunk in part) >= BYTES_AT_ONCE:
                self._archive.put_output(part)
                part.clear()

        self._queue.each_output(numbers, keep)
        self._archive.put_output(part)

    def _commit(self, entries: list[StreamEntry]) -> None:
        """Do the step copying → archived. Copies of jobs that changed or were deleted meanwhile are deleted again."""
        if not entries:
            return
        changed, deleted = self._queue.archive_done(entries)
        self._archive.delete_below([(each.number, each.id, each.version + 1) for each in changed])
        self._archive.delete({each.number: each.id for each in deleted})
        if changed or deleted:
            self._queue.drop_entries([*changed, *deleted])

    def _keep_live(self, entries: list[StreamEntry]) -> None:
        if entries:
            self._queue.keep_live(entries)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._reconcile()
                self.archive_batch(IDLE_MS)
            except (StoreError, OutcomeUnknown):
                # `Archive.fault` has the error of the archive; a command that needs an archived job reports this error.
                self._stopped.wait(RETRY_AFTER)
            except Exception as error:
                # An unexpected error for one job must not end the thread.
                self._archive.fault = f"{self._archive.shown}: {error!r}"
                self._stopped.wait(RETRY_AFTER)

    def _reconcile(self) -> None:
        """Complete interrupted steps of others. Audit regularly, and if one side may have been set back in time."""
        if self._archive.fault is not None:
            self._archive.max_number()  # any request shows whether the archive answers again
        self.finish_all()
        if self._queue.session.write(lock.take):
            self._queue.forget_archivers()
            self._audit.repair()
