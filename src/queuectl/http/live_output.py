"""The output of a running job while streams follow it: one thread reads it, however many streams there are."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.errors import StoreError
from queuectl.service.following import Begin, Part, Position
from queuectl.service.queue import Queue

KEPT = 256 * 1024
"""Bytes of the newest output that are kept. A reader that is further behind reads the store."""

SILENCE = 3.0
"""Seconds without a completed read after which the store counts as away. A read is made at least twice a second."""

RETRY = 1.0
"""Seconds after a failed read."""


class NobodyReads(Exception):
    """Ends the thread."""


class LiveOutput:
    """The newest parts of the output of a job, or of one attempt, from a position on.

    The thread that reads adds parts; `cursor` and `after` may be called from another thread. A cursor is the number of
    parts that were read or dropped.

    wakes    the events to set when there is something new. Used only in the event loop
    is_over  the thread has ended
    """

    def __init__(self, queue: Queue, id: str, attempt: int | None, at: Position) -> None:
        self.key = (id, attempt)
        self.wakes = set[asyncio.Event]()
        self.is_over = False
        self._queue, self._start = queue, at
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._parts = deque[Part]()
        self._dropped, self._size = 0, 0
        self._stopped = threading.Event()
        self._failed, self._seen_at = False, boottime()
        threading.Thread(target=self._run, name="queuectl-output").start()

    @property
    def is_away(self) -> bool:
        """Whether the store does not answer."""
        return self._failed or boottime() - self._seen_at > SILENCE

    def stop(self) -> None:
        """Let the thread end with its present read."""
        self._stopped.set()

    def cursor(self, at: Position) -> int | None:
        """A cursor before the byte at this position; None if it is not kept. Parts before the byte may follow."""
        with self._lock:
            if _is_same_attempt(at, self._start) and at.offset >= self._start.offset:
                return self._dropped
            begins = (
                n
                for n, part in enumerate(self._parts, 1)
                if isinstance(part, Begin) and part.attempt_id == at.attempt_id
            )
            found = next(begins, None)
            return None if found is None else self._dropped + found

    def after(self, cursor: int) -> tuple[list[Part], int] | None:
        """The parts from a cursor on, and the cursor after them; None if some of them are not kept any more."""
        with self._lock:
            if cursor < self._dropped:
                return None
            return list(islice(self._parts, cursor - self._dropped, None)), self._dropped + len(self._parts)

    def _run(self) -> None:
        at = self._start
        try:
            while not self._stopped.is_set():
                try:
                    for part in self._followed(at):
                        at = at.after(part)
                        self._add(part)
                    return
                except StoreError:
                    self._failed = True
                    self._wake()
                    self._stopped.wait(RETRY)
        except NobodyReads:
            return
        finally:
            self.is_over = True
            self._wake()

    def _followed(self, at: Position) -> Iterator[Part]:
        id, attempt = self.key
        return self._queue.follow(id, attempt=attempt, after=at, look=self._look)

    def _look(self, _job: Job) -> None:
        if self._stopped.is_set():
            raise NobodyReads
        self._failed, self._seen_at = False, boottime()

    def _add(self, part: Part) -> None:
        with self._lock:
            self._parts.append(part)
            self._size += size_of(part)
            while self._size > KEPT and len(self._parts) > 1:
                old = self._parts.popleft()
                self._dropped += 1
                self._size -= size_of(old)
                self._start = self._start.after(old)
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for wake in self.wakes:
            wake.set()


def _is_same_attempt(one: Position, other: Position) -> bool:
    """Whether two readers read the same attempt, or both have to begin with the attempt of this number."""
    return one.attempt_id == other.attempt_id and (bool(one.attempt_id) or one.attempt == other.attempt)


def size_of(part: Part) -> int:
    """The bytes of output in a part."""
    return len(part.data) if isinstance(part, Chunk) else 0
