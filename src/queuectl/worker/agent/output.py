"""Ships output: writes the holder's chunks to the store, and trims the middle of a long output there.

Output that cannot be stored never fails a job. The shipper tries again to write such chunks; the results of their
attempts wait for `GIVE_UP_AFTER` seconds, and then the chunks are dropped with the attempt.
"""

from datetime import UTC, datetime

from queuectl.clock import boottime
from queuectl.domain.output import Chunk, Trim, surplus
from queuectl.errors import OutcomeUnknown, StoreError, StoreUnusable
from queuectl.store.protocol import Store
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.protocol import AckOutput, Output

RETRY_AFTER = 1.0
"""Seconds after a failed write until the chunks are written again."""
GIVE_UP_AFTER = 60.0
"""Seconds for which results wait for output that cannot be written."""
REFUSALS = 2
"""Refusals of output in a row (`StoreUnusable`) after which results no longer wait for their output. Refusals during an
outage of the store do not count. One is not enough: a server whose roles change may accept the next request."""


class _Stored:
    """The stored output of one attempt: `(n, offset, length)` of each chunk, and the limit (None: unknown)."""

    def __init__(self, job_id: str, limit: int | None, chunks: list[tuple[int, int, int]]) -> None:
        self.job_id = job_id
        self.limit = limit
        self.chunks = list(chunks)


class OutputShipper:
    """Keeps the chunks that wait to be written, and records which chunks are stored.

    fault     the error of the last write; None if it succeeded
    retry_at  the time of the next try after a fault (CLOCK_BOOTTIME)
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Chunk] = []
        self._stored: dict[str, _Stored] = {}
        self._limits: dict[str, int] = {}
        self._failing_since: float | None = None
        self._refusals = 0
        self.fault: StoreError | OutcomeUnknown | None = None
        self.retry_at = NEVER

    @property
    def pending(self) -> bool:
        """Whether chunks wait to be written."""
        return bool(self._waiting)

    def add(self, message: Output, data: bytes) -> None:
        """Add a chunk that the holder sent."""
        at = datetime.fromtimestamp(message.at, UTC)
        chunk = (message.job_id, message.attempt_id, message.n, message.stream, at, message.offset, data)
        self._waiting.append(Chunk(*chunk))

    def try_to_write(self, connection: Connection | None) -> bool:
        """Write the waiting chunks.

        Returns whether this succeeded; if not, `fault` is the error and the chunks are kept.
        """
        try:
            self.write(connection)
        except (StoreError, OutcomeUnknown) as fault:
            self._failing_since = self._failing_since or boottime()
            self._refusals += isinstance(fault, StoreUnusable)
            self.fault, self.retry_at = fault, boottime() + RETRY_AFTER
            return False
        self._failing_since, self.fault, self.retry_at = None, None, NEVER
        self._refusals = 0
        return True

    def note_outage(self) -> None:
        """Reset the count of refusals, because another call failed too: the cause is not the output."""
        self._refusals = 0

    def unwritten(self) -> frozenset[str]:
        """The attempts whose results must wait for output that could not be written.

        Output is accepted only while its attempt has the lease, and recording the result ends the lease. If the
        result were recorded first, the output would be lost.
        """
        if self.fault is None or self._refusals >= REFUSALS or self._failing_since is None:
            return frozenset()
        if boottime() - self._failing_since >= GIVE_UP_AFTER:
            return frozenset()
        return frozenset(chunk.attempt_id for chunk in self._waiting)

    def write(self, connection: Connection | None) -> None:
        """Store and acknowledge the waiting chunks. Raises StoreError or OutcomeUnknown; the chunks are then kept."""
        if not self._waiting:
            return
        stored = self._stored_with_waiting()
        trims = self._trims(stored)
        refused = self._store.write_output(self._waiting, trims)
        for trim in trims:
            chunks = stored[trim.attempt_id].chunks
            stored[trim.attempt_id].chunks = [c for c in chunks if not trim.after < c[0] < trim.before]
        self._stored |= {attempt_id: stored[attempt_id] for attempt_id in stored.keys() - refused}
        newest = {chunk.attempt_id: chunk.n for chunk in self._waiting}
        self._waiting = []
        for attempt_id, n in newest.items():
            if connection is not None:
                connection.queue(AckOutput(attempt_id, n))

    def expect(self, attempt_id: str, limit: int) -> None:
        """Prepare for the output of an attempt. At most `limit` bytes of it are stored."""
        self._limits[attempt_id] = limit

    def forget(self, attempt_id: str) -> None:
        """Forget an attempt, because it is over."""
        self._limits.pop(attempt_id, None)
        self._stored.pop(attempt_id, None)
        if self._waiting:
            self._waiting = [chunk for chunk in self._waiting if chunk.attempt_id != attempt_id]

    def _stored_with_waiting(self) -> dict[str, _Stored]:
        """The stored output after this write. `_stored` itself changes only after the store has answered."""
        after: dict[str, _Stored] = {}
        for chunk in self._waiting:
            if chunk.attempt_id not in after:
                before = self._stored.get(chunk.attempt_id)
                limit = self._limits.get(chunk.attempt_id)
                after[chunk.attempt_id] = _Stored(chunk.job_id, limit, before.chunks if before else [])
            after[chunk.attempt_id].chunks.append((chunk.n, chunk.offset, len(chunk.data)))
        return after

    def _trims(self, stored: dict[str, _Stored]) -> list[Trim]:
        """The trims that drop the chunks between head and tail of each output that is too long."""
        found = [
            (attempt_id, one.job_id, surplus(one.chunks, one.limit))
            for attempt_id, one in stored.items()
            if one.limit is not None
        ]
        return [Trim(job_id, attempt_id, *between) for attempt_id, job_id, between in found if between]
