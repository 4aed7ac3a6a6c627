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
from queuectl.store.archived.audit import Audit
from queuectl.store.redis import archiving, find, output, turns
from queuectl.store.redis.archiving import Arrival, Departure
from queuectl.store.redis.connect import Connections, Line

if TYPE_CHECKING:
    from queuectl.store.archived.past import Past

AT_ONCE = 200
IDLE_MS = 1000
"""For how long one question for new entries is kept by the server."""
AWAY = 2.0
"""Seconds until an archive that was away is tried again."""
BYTES_AT_ONCE = 4 << 20
"""Output in one write to the archive."""


class Mover:
    """Moves jobs, one batch after the other. `moment` is the time for scripts."""

    def __init__(
        self, connections: Connections, open_past: Callable[[], "Past"], moment: Callable[[], str]
    ) -> None:
        self._connections, self._open_past, self._moment = connections, open_past, moment
        self._name = random_bytes(8).hex()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def _past(self) -> "Past":
        return self._open_past()

    @cached_property
    def _audit(self) -> Audit:
        return Audit(self._connections, self._past, self._moment, self._ended)

    def start(self) -> None:
        """Move from now on, in a thread. Twice is once."""
        if self._thread is None:
            self._past.is_watched = True
            self._thread = threading.Thread(target=self._run, name="queuectl-mover", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End within one answer of the server."""
        self._ended.set()

    def finish(self, within: float) -> None:
        """End, and hand over before that what has ended so far: it may be that no worker comes after this one."""
        self.stop()
        if self._thread is None or self._past.trouble is not None:
            return
        deadline = time.monotonic() + within
        with suppress(StoreError, OutcomeUnknown):  # then the next worker does it
            if self._connections.read(archiving.waiting):
                self._thread.join(within)
                while time.monotonic() < deadline and self.move():
                    pass

    def move(self, wait_ms: int = 0) -> int:
        """One batch. Answers how many entries there were."""
        found = self._connections.write(
            lambda line: archiving.departures(line, self._name, AT_ONCE, wait_ms=wait_ms)
        )
        if found:
            jobs, damaged = self._connections.read(lambda line: _load(line, found))
            self._connections.read(lambda line: self._keep_output(line, [job.number for job in jobs]))
            stays = {
                job.number for job in self._past.keep(jobs, self._fresh_number)
            }  # those too large for it
            stays |= {each.number for each in damaged}
            self._leave([each for each in found if each.number not in stays])
            self._leave_here([each for each in found if each.number in stays])
        return len(found)

    def tidy(self) -> None:
        """Finish what others have left in the middle."""
        self.welcome(self._connections.read(archiving.arriving))
        self.strike(self._connections.read(archiving.leaving))

    def welcome(self, jobs: Sequence[Arrival]) -> None:
        """Let jobs that came back stand in line, once the archive has let them go."""
        for start in range(0, len(jobs), AT_ONCE):
            batch = jobs[start : start + AT_ONCE]
            self._past.let_go([(job.number, job.id, job.version) for job in batch])
            self._connections.write(lambda line: archiving.arrived(line, self._moment(), batch))  # noqa: B023

    def strike(self, jobs: dict[int, str]) -> None:
        """Take jobs that were deleted out of the archive."""
        if jobs:
            self._past.delete(jobs)
            self._connections.write(lambda line: archiving.left(line, jobs, self._moment()))

    def _keep_output(self, line: Line, numbers: Sequence[int]) -> None:
        """What these jobs have printed, in pieces of a size that a write can bear."""
        piece: list[tuple[int, Chunk]] = []
        for chunks in output.of_jobs(line, numbers):
            piece += chunks
            if sum(len(chunk.data) for _, chunk in piece) >= BYTES_AT_ONCE:
                self._past.keep_output(piece)
                piece = []
        self._past.keep_output(piece)

    def _fresh_number(self) -> int:
        return self._connections.write(lambda line: int(line.call("INCR", line.key("number"))))

    def _leave(self, found: list[Departure]) -> None:
        if not found:
            return
        back = self._connections.write(lambda line: archiving.archived(line, found))
        self._past.let_go([(each.number, each.id, each.version + 1) for each in back.changed])
        self._past.delete({each.number: each.id for each in back.deleted})
        over = [*back.changed, *back.deleted]
        if over:
            self._connections.write(lambda line: archiving.struck(line, over))

    def _leave_here(self, found: list[Departure]) -> None:
        if found:
            self._connections.write(lambda line: archiving.stay(line, found))

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
                self._past.trouble = f"{self._past.shown}: {error!r}"
                self._ended.wait(AWAY)

    def _look_over(self) -> None:
        """Finish what is unfinished; compare the two now and then, and when the queue may have been set back."""
        if self._past.trouble is not None:
            self._past.greatest()  # anything: does it answer?
        if self._connections.read(archiving.has_unfinished):
            self.tidy()
        if self._connections.write(lambda line: turns.take(line, "audit")):
            self._connections.write(archiving.dismiss_movers)
            self._audit.mend()


def _load(line: Line, found: Sequence[Departure]) -> tuple[list[Job], list[Unreadable]]:
    """The jobs as they are now, if they are still what the entries speak of, and those that cannot be decoded."""
    wanted = {each.number: each.version for each in found}
    jobs, damaged = find.by_number(line, list(wanted))
    return [job for job in jobs if job.ended and job.version == wanted[job.number]], damaged
