"""Takes what has ended from the queue to the archive: upsert, then out of the queue, acknowledged in the same step.

Every worker has one, in a thread of its own; none is needed in particular. Whatever dies in between, the next one finds
the entry of the stream again, and every step may be done twice. While the archive is away the stream grows, and nothing
else is different.
"""

import threading
from collections.abc import Callable
from contextlib import suppress

from queuectl.clock import random_bytes
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.store.archived.past import Past
from queuectl.store.redis import archiving, finding, output
from queuectl.store.redis.archiving import Departure
from queuectl.store.redis.connections import Connections, Line

AT_ONCE = 200
IDLE_MS = 1000
"""For how long one question for new entries is kept by the server."""
AWAY = 2.0
"""Seconds until an archive that was away is tried again."""


class Mover:
    """Moves jobs, one batch after the other. `moment` is the time for scripts."""

    def __init__(self, connections: Connections, past: Past, moment: Callable[[], str]) -> None:
        self._connections, self._past, self._moment = connections, past, moment
        self._name = random_bytes(8).hex()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Move from now on, in a thread. Twice is once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queuectl-mover", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End within one answer of the server."""
        self._ended.set()

    def move(self, wait_ms: int = 0) -> int:
        """One batch. Answers how many entries there were."""
        found = self._connections.write(
            lambda line: archiving.departures(line, self._name, AT_ONCE, wait_ms=wait_ms)
        )
        if found:
            jobs, chunks = self._connections.read(lambda line: _load(line, found))
            self._past.keep(jobs, chunks)
            self._leave(found)
        return len(found)

    def tidy(self) -> None:
        """Finish what others have left in the middle."""
        self._connections.write(archiving.readmit)
        for number, version in self._connections.read(archiving.arriving).items():
            self.welcome(number, version)
        begun = self._connections.read(archiving.leaving)
        self.dismiss([number for number, sure in begun.items() if not sure])
        self._delete([number for number, sure in begun.items() if sure])

    def welcome(self, number: int, version: int) -> bool:
        """Let a job that came back stand in line, once the archive has let it go. False if it had a newer one."""
        keep = self._past.let_go(number, version)
        self._connections.write(lambda line: archiving.arrived(line, self._moment(), number, keep=keep))
        return keep

    def dismiss(self, numbers: list[int]) -> set[int]:
        """Delete jobs of the archive that were noted to leave. Answers those that it still had."""
        there = self._past.holds(numbers)
        if numbers:
            self._connections.write(lambda line: archiving.confirm(line, numbers, there))
        self._delete(sorted(there))
        return there

    def _delete(self, numbers: list[int]) -> None:
        if numbers:
            self._past.delete(numbers)
            self._connections.write(lambda line: archiving.left(line, numbers))

    def _leave(self, found: list[Departure]) -> None:
        changed = self._connections.write(lambda line: archiving.archived(line, self._moment(), found))
        for each in changed:
            self._past.let_go(int(each.number), each.version + 1)
        if changed:
            self._connections.write(lambda line: archiving.struck(line, changed))

    def _run(self) -> None:
        with suppress(StoreError, OutcomeUnknown):
            self.tidy()
        while not self._ended.is_set():
            try:
                self.move(IDLE_MS)
            except (StoreError, OutcomeUnknown):  # whoever asks for something past hears of it
                self._ended.wait(AWAY)


def _load(line: Line, found: list[Departure]) -> tuple[list[Job], list[tuple[int, Chunk]]]:
    """The jobs as they are now, if they are still what the entries speak of, with all that they printed."""
    wanted = {int(each.number): each.version for each in found}
    jobs = [
        job
        for job in finding.by_number(line, list(wanted))
        if job.ended and job.version == wanted[job.number]
    ]
    return jobs, [(job.number, chunk) for job in jobs for chunk in output.of_job(line, job.number)]
