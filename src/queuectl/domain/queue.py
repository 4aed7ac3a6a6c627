"""The settings of a queue: whether jobs may be claimed from it, and how many may run at once."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class QueueSettings(Struct, frozen=True):
    """The settings in a queue's entry in the shared table. A queue without an entry has the defaults.

    Drivers that compute the capacity inside the store (SQL, Lua) have to agree with `of` and `capacity`:
    `tests/contract/test_queue_settings.py` runs the same table of cases on all of them.
    """

    paused: bool = False
    limit: int | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "QueueSettings":
        """The settings in an entry. An invalid entry pauses the queue: it may have been a pause or a limit."""
        if not is_sound(value):
            return cls(paused=True)
        return cls(bool(value.get("paused")), value.get("limit"))

    def capacity(self, processing: int, wanted: int) -> int:
        """How many of `wanted` jobs may be claimed while `processing` jobs of the queue run."""
        if self.paused:
            return 0
        return wanted if self.limit is None else max(0, min(wanted, self.limit - processing))


def is_sound(value: Mapping[str, Any]) -> bool:
    """Whether an entry contains valid settings of a queue."""
    paused, limit = value.get("paused"), value.get("limit")
    return (paused is None or type(paused) is bool) and (limit is None or type(limit) is int)
