"""Shipping output: chunks from the holder into the store, the middle of long outputs forgotten again.

Output is never worth a job: what cannot be written is retried with the next chunk and dropped with its attempt.
"""

from datetime import UTC, datetime

from queuectl.domain.output import Chunk, Trim, surplus
from queuectl.store.protocol import Store
from queuectl.worker.link import Link
from queuectl.worker.messages import Message


class _Kept:
    """What is stored of one attempt: `(n, offset, length)` of each chunk, and the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.chunks: list[tuple[int, int, int]] = []


class Outputs:
    """The chunks that wait, and the account of what is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Chunk] = []
        self._kept: dict[str, _Kept] = {}
        self._limits: dict[str, int] = {}

    @property
    def pending(self) -> bool:
        """Whether chunks wait to be written."""
        return bool(self._waiting)

    def add(self, message: Message, data: bytes) -> None:
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

    def write(self, link: Link) -> None:
        """Store what waits and acknowledge it. Raises StoreError or OutcomeUnknown; then it waits on."""
        if not self._waiting:
            return
        refused = self._store.write_output(self._waiting, self._trims())
        newest = {chunk.attempt_id: chunk.n for chunk in self._waiting}
        self._waiting = []
        for attempt_id, n in newest.items():
            link.queue({"type": "ack_output", "attempt_id": attempt_id, "n": n})
        for attempt_id in refused:
            self._kept.pop(attempt_id, None)

    def expect(self, attempt_id: str, limit: int) -> None:
        """An attempt begins whose stored output is limited to `limit` bytes."""
        self._limits[attempt_id] = limit

    def forget(self, attempt_id: str) -> None:
        """An attempt is over."""
        self._limits.pop(attempt_id, None)
        self._kept.pop(attempt_id, None)
        self._waiting = [chunk for chunk in self._waiting if chunk.attempt_id != attempt_id]

    def _trims(self) -> list[Trim]:
        """What lies between head and tail once the waiting chunks are stored."""
        trims = []
        for chunk in self._waiting:
            kept = self._kept.setdefault(chunk.attempt_id, _Kept(self._limits.get(chunk.attempt_id, 1 << 20)))
            kept.chunks.append((chunk.n, chunk.offset, len(chunk.data)))
        for attempt_id in {chunk.attempt_id for chunk in self._waiting}:
            kept = self._kept[attempt_id]
            between = surplus(kept.chunks, kept.limit)
            if between:
                after, before = between
                kept.chunks = [item for item in kept.chunks if not after < item[0] < before]
                job_id = next(chunk.job_id for chunk in self._waiting if chunk.attempt_id == attempt_id)
                trims.append(Trim(job_id, attempt_id, after, before))
        return trims
