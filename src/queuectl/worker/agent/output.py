"""Shipping output: chunks from the holder into the store, the middle of long outputs forgotten again.

Output is never worth a job: what cannot be written is retried, results wait for it for a while, and then it is dropped
with its attempt.
"""

from datetime import UTC, datetime

from queuectl.clock import boottime
from queuectl.domain.output import Chunk, Trim, surplus
from queuectl.errors import OutcomeUnknown, StoreError, StoreUnusable
from queuectl.store.protocol import Store
from queuectl.worker.agent.connection import Connection
from queuectl.worker.protocol import Fields

AGAIN = 1.0
"""Seconds until what could not be written is tried again where the store works otherwise."""
HOPELESS = 60.0
"""Seconds for which results wait for an output that cannot be written."""


class _Kept:
    """What is stored of one attempt: `(n, offset, length)` of each chunk, and the limit (None: not known)."""

    def __init__(self, job_id: str, limit: int | None, chunks: list[tuple[int, int, int]]) -> None:
        self.job_id = job_id
        self.limit = limit
        self.chunks = list(chunks)


class OutputShipper:
    """The chunks that wait, and the account of what is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Chunk] = []
        self._kept: dict[str, _Kept] = {}
        self._limits: dict[str, int] = {}
        self._failing_since: float | None = None
        self.fault: StoreError | OutcomeUnknown | None = None
        """What went wrong when it was tried last; None if nothing did."""
        self.due = 0.0
        """When to try again after a fault (CLOCK_BOOTTIME)."""

    @property
    def pending(self) -> bool:
        """Whether chunks wait to be written."""
        return bool(self._waiting)

    def add(self, message: Fields, data: bytes) -> None:
        """A chunk came."""
        at = datetime.fromtimestamp(message["at"], UTC)
        chunk = Chunk(
            message["job_id"],
            message["attempt_id"],
            message["n"],
            message["stream"],
            at,
            message["offset"],
            data,
        )
        self._waiting.append(chunk)

    def try_to_write(self, link: Connection | None) -> bool:
        """Store what waits and acknowledge it. Where it cannot be stored, that is the `fault`, and it waits on."""
        try:
            self.write(link)
        except (StoreError, OutcomeUnknown) as fault:
            self._failing_since = self._failing_since or boottime()
            self.fault, self.due = fault, boottime() + AGAIN
            return False
        self._failing_since, self.fault, self.due = None, None, 0.0
        return True

    def awaited(self) -> frozenset[str]:
        """The attempts whose results are to wait after a fault: recorded first, they would end the lease that output
        needs.
        """
        if self.fault is None or isinstance(self.fault, StoreUnusable) or self._failing_since is None:
            return frozenset()
        if boottime() - self._failing_since >= HOPELESS:
            return frozenset()
        return frozenset(chunk.attempt_id for chunk in self._waiting)

    def write(self, link: Connection | None) -> None:
        """Store what waits and acknowledge it. Raises StoreError or OutcomeUnknown; then it waits on."""
        if not self._waiting:
            return
        kept = self._kept_with_waiting()
        trims = self._trims(kept)
        refused = self._store.write_output(self._waiting, trims)
        for trim in trims:
            chunks = kept[trim.attempt_id].chunks
            kept[trim.attempt_id].chunks = [c for c in chunks if not trim.after < c[0] < trim.before]
        self._kept |= {attempt_id: kept[attempt_id] for attempt_id in kept.keys() - refused}
        newest = {chunk.attempt_id: chunk.n for chunk in self._waiting}
        self._waiting = []
        for attempt_id, n in newest.items():
            if link is not None:
                link.queue({"type": "ack_output", "attempt_id": attempt_id, "n": n})

    def expect(self, attempt_id: str, limit: int) -> None:
        """An attempt begins whose stored output is limited to `limit` bytes."""
        self._limits[attempt_id] = limit

    def forget(self, attempt_id: str) -> None:
        """An attempt is over."""
        self._limits.pop(attempt_id, None)
        self._kept.pop(attempt_id, None)
        self._waiting = [chunk for chunk in self._waiting if chunk.attempt_id != attempt_id]

    def _kept_with_waiting(self) -> dict[str, _Kept]:
        """What will be stored once the waiting chunks are. The account changes only when the store has answered."""
        after: dict[str, _Kept] = {}
        for chunk in self._waiting:
            if chunk.attempt_id not in after:
                before = self._kept.get(chunk.attempt_id)
                limit = self._limits.get(chunk.attempt_id)
                after[chunk.attempt_id] = _Kept(chunk.job_id, limit, before.chunks if before else [])
            after[chunk.attempt_id].chunks.append((chunk.n, chunk.offset, len(chunk.data)))
        return after

    def _trims(self, kept: dict[str, _Kept]) -> list[Trim]:
        """What lies between head and tail then."""
        found = [
            (attempt_id, one.job_id, surplus(one.chunks, one.limit))
            for attempt_id, one in kept.items()
            if one.limit is not None
        ]
        return [Trim(job_id, attempt_id, *between) for attempt_id, job_id, between in found if between]
