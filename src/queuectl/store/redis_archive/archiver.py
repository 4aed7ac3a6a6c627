"""Takes what has ended from the queue to the archive: upsert, then out of the queue, acknowledged in the same step.

Every worker has one, in a thread of its own; none is needed in particular. Whatever dies in between, the next one finds
the entry of the stream again, and every step may be done twice. While the archive is away the stream grows, and nothing
else is different.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from queuectl.clock import random_bytes
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Unreadable
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.store.redis import find, output, turns
from queuectl.store.redis.connect import Line, RedisSession
from queuectl.store.redis_archive import transfer
from queuectl.store.redis_archive.audit import Audit
from queuectl.store.redis_archive.transfer import Arrival, Departure

if TYPE_CHECKING:
    from queuectl.store.redis_archive.archive import Archive

AT_ONCE = 200
IDLE_MS = 1000
"""For how long one question for new entries is kept by the server."""
AWAY = 2.0
"""Seconds until an archive that was away is tried again."""
BYTES_AT_ONCE = 4 << 20
"""Output in one write to the archive."""


class Archiver:
    """Moves jobs, one batch after the other. `moment` is the time for scripts."""

    def __init__(
        self, connections: RedisSession, open_archive: Callable[[], "Archive"], moment: Callable[[], str]
    ) -> None:
        self._connections, self._open_archive, self._moment = connections, open_archive, moment
        self._name = random_bytes(8).hex()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def _archive(self) -> "Archive":
        return self._open_archive()

    @cached_property
    def _audit(self) -> Audit:
        return Audit(self._connections, self._archive, self._moment, self._ended)

    def start(self) -> None:
        """Move from now on, in a thread. Twice is once."""
        if self._thread is None:
            self._archive.is_watched = True
            self._thread = threading.Thread(target=self._run, name="queuectl-archiver", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End within one answer of the server."""
        self._ended.set()

    def finish(self, within: float) -> None:
        """End, and hand over before that what has ended so far: it may be that no worker comes after this one."""
        self.stop()
        if self._thread is None or self._archive.trouble is not None:
            return
        deadline = time.monotonic() + within
        with suppress(StoreError, OutcomeUnknown):  # then the next worker does it
            if self._connections.read(transfer.waiting):
                self._thread.join(within)
                while time.monotonic() < deadline and self.move():
                    pass

    def move(self, wait_ms: int = 0) -> int:
        """One batch. Answers how many entries there were."""
        found = self._connections.write(
            lambda line: transfer.departures(line, self._name, AT_ONCE, wait_ms=wait_ms)
        )
        if found:
            jobs, damaged = self._connections.read(lambda line: _load(line, found))
            self._connections.read(lambda line: self._put_output(line, [job.number for job in jobs]))
            stays = {
                job.number for job in self._archive.put(jobs, self._fresh_number)
            }  # those too large for it
            stays |= {each.number for each in damaged}
            self._commit([each for each in found if each.number not in stays])
            self._keep_live([each for each in found if each.number in stays])
        return len(found)

    def tidy(self) -> None:
        """Finish what others have left in the middle."""
        self.finish_restores(self._connections.read(transfer.restoring))
        self.finish_deletes(self._connections.read(transfer.deleting))

    def finish_restores(self, jobs: Sequence[Arrival]) -> None:
        """Let jobs that came back stand in line, once the archive has let them go."""
        for start in range(0, len(jobs), AT_ONCE):
            batch = jobs[start : start + AT_ONCE]
            self._archive.delete_below([(job.number, job.id, job.version) for job in batch])
            self._connections.write(lambda line: transfer.restore_done(line, self._moment(), batch))  # noqa: B023

    def finish_deletes(self, jobs: dict[int, str]) -> None:
        """Take jobs that were deleted out of the archive."""
        if jobs:
            self._archive.delete(jobs)
            self._connections.write(lambda line: transfer.delete_done(line, jobs, self._moment()))

    def _put_output(self, line: Line, numbers: Sequence[int]) -> None:
        """What these jobs have printed, in pieces of a size that a write can bear."""
        piece: list[tuple[int, Chunk]] = []
        for chunks in output.of_jobs(line, numbers):
            piece += chunks
            if sum(len(chunk.data) for _, chunk in piece) >= BYTES_AT_ONCE:
                self._archive.put_output(piece)
                piece = []
        self._archive.put_output(piece)

    def _fresh_number(self) -> int:
        return self._connections.write(lambda line: int(line.call("INCR", line.key("number"))))

    def _commit(self, found: list[Departure]) -> None:
        if not found:
            return
        back = self._connections.write(lambda line: transfer.archive_done(line, found))
        self._archive.delete_below([(each.number, each.id, each.version + 1) for each in back.changed])
        self._archive.delete({each.number: each.id for each in back.deleted})
        over = [*back.changed, *back.deleted]
        if over:
            self._connections.write(lambda line: transfer.drop_entries(line, over))

    def _keep_live(self, found: list[Departure]) -> None:
        if found:
            self._connections.write(lambda line: transfer.keep_live(line, found))

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._look_over()
                self.move(IDLE_MS)
            except (
                StoreError,
                OutcomeUnknown,
            ):  # it is told as trouble, and whoever asks for something past hears of it
                self._ended.wait(AWAY)
            except (
                Exception
            ) as error:  # one job that cannot be moved for a reason nobody thought of stops nobody else
                self._archive.trouble = f"{self._archive.shown}: {error!r}"
                self._ended.wait(AWAY)

    def _look_over(self) -> None:
        """Finish what is unfinished; compare the two now and then, and when the queue may have been set back."""
        if self._archive.trouble is not None:
            self._archive.max_number()  # anything: does it answer?
        if self._connections.read(transfer.has_unfinished):
            self.tidy()
        if self._connections.write(lambda line: turns.take(line, "audit")):
            self._connections.write(transfer.forget_archivers)
            self._audit.mend()


def _load(line: Line, found: Sequence[Departure]) -> tuple[list[Job], list[Unreadable]]:
    """The jobs as they are now, if they are still what the entries speak of, and those that cannot be decoded."""
    wanted = {each.number: each.version for each in found}
    jobs, damaged = find.by_number(line, list(wanted))
    return [job for job in jobs if job.ended and job.version == wanted[job.number]], damaged
