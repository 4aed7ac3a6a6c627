"""The functions of `events.py` for a driver that keeps no events yet. It ignores given events and refuses to read."""

from datetime import datetime

from queuectl.errors import StoreUnusable
from queuectl.store.protocol import EventPage


def read(connection: object, after: str | None, limit: int) -> EventPage:  # noqa: ARG001
    """Refuse to read events."""
    raise _refusal()


def cursor(connection: object, at: datetime | None) -> str:  # noqa: ARG001
    """Refuse to name a cursor."""
    raise _refusal()


def trim(connection: object, before: datetime, keep: int, limit: int) -> int:  # noqa: ARG001
    """Delete nothing, because nothing is kept."""
    return 0


def _refusal() -> StoreUnusable:
    return StoreUnusable("this kind of store keeps no events yet")
