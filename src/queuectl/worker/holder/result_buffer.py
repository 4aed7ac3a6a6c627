"""Counts the memory of results that the agent has not acknowledged."""

LIMIT = 64 << 20
"""Bytes of unacknowledged results above which the holder starts no further command."""


class ResultBuffer:
    """The sizes of the finished attempts by id.

    While the store is away nothing is acknowledged and results pile up. Without a limit a worker of short jobs would
    fill the memory of its host; with it, the worker stops starting commands and those that run still end.
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
        """An attempt has finished, or part of its output was acknowledged: its result takes this many bytes."""
        self._total += size - self._sizes.get(attempt_id, 0)
        self._sizes[attempt_id] = size

    def remove(self, attempt_id: str) -> None:
        """The result is acknowledged."""
        self._total -= self._sizes.pop(attempt_id)
