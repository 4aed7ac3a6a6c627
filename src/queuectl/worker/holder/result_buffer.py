"""Counts the memory of results that the agent has not acknowledged."""

LIMIT = 64 << 20
"""Bytes of unacknowledged results above which the holder starts no further command."""


class ResultBuffer:
    """The sizes of the finished attempts, by attempt id.

    While the store cannot be reached, no result is acknowledged and their number grows. Without a limit a
    worker of short jobs would fill the memory of its host. At the limit the worker starts no more commands; the running
    commands continue.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._total = 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def full(self) -> bool:
        """Whether the limit is reached, so that no further command may start."""
        return self._total >= LIMIT

    def set(self, attempt_id: str, size: int) -> None:
        """Set the size of a result, when its attempt has finished or a part of its output was acknowledged."""
        self._total += size - self._sizes.get(attempt_id, 0)
        self._sizes[attempt_id] = size

    def remove(self, attempt_id: str) -> None:
        """Remove a result, because it was acknowledged."""
        self._total -= self._sizes.pop(attempt_id)
