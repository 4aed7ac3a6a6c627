"""The settings of a queue: whether jobs may be claimed from it, why not, and how many may run at once."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class QueueSettings(Struct, frozen=True):
    """The settings in a queue's entry in the shared table. A queue without an entry has the defaults.

    `reason` is why a person paused the queue.

    Drivers that compute the capacity inside the store (SQL, Lua) have to agree with `of` and `capacity`:
    `tests/contract/test_queue_settings.py` runs the same table of cases on all of them.
    """

    paused: bool = False
    limit: int | None = None
    reason: str | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "QueueSettings":
        """The settings in an entry. An invalid entry pauses the queue: it may have been a pause or a limit."""
        if not is_sound(value):
            return cls(paused=True)
        paused, reason = bool(value.get("paused")), value.get("reason")
        return cls(paused, value.get("limit"), reason if paused and isinstance(reason, str) else None)

    @property
    def entry(self) -> dict[str, Any]:
        """The settings as an entry. The reason is left out if there is none, as in entries of older versions."""
        value = {"paused": self.paused, "limit": self.limit}
        return value if self.reason is None else {**value, "reason": self.reason}

    def capacity(self, processing: int, wanted: int) -> int:
        """How many of `wanted` jobs may be claimed while `processing` jobs of the queue run."""
        if self.paused:
            return 0
        return wanted if self.limit is None else max(0, min(wanted, self.limit - processing))


class QueueChange(Struct, frozen=True, kw_only=True):
    """What a person changes of a queue. `reason` belongs to a pause: a resume removes it."""

    paused: bool | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    limit: int | UnsetType | None = UNSET

    def applied_to(self, settings: QueueSettings) -> QueueSettings:
        """The settings after the change."""
        paused = settings.paused if self.paused is UNSET else self.paused
        reason = settings.reason if self.reason is UNSET else self.reason
        limit = settings.limit if self.limit is UNSET else self.limit
        return QueueSettings(paused, limit, reason if paused else None)


def paused_in_words(queue: str, reason: str | None) -> str:
    """The beginning of a sentence about a paused queue."""
    return f"queue {queue} is paused" + (f" ({reason})" if reason else "")


def is_sound(value: Mapping[str, Any]) -> bool:
    """Whether an entry contains valid settings of a queue."""
    paused, limit = value.get("paused"), value.get("limit")
    return (paused is None or type(paused) is bool) and (limit is None or type(limit) is int)
