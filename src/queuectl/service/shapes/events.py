"""The document of an event, as every client shows it, and the way back to the values."""

from collections.abc import Mapping, Sequence
from typing import Any

from queuectl.domain.event import Event
from queuectl.service.shapes.record import Record, document
from queuectl.store.protocol import EventPage

EVENT = Record(
    Event,
    "event at job number queue batch state before attempt attempt_id worker exit_code signal cause by via",
)
GAP = document(event="events.gap")
"""Stands for events that were deleted before they were read."""


def event(cursor: str, event: Event) -> dict[str, Any]:
    """One event, with its cursor as `id`."""
    shown = EVENT.encode(event)
    return document(event=shown.pop("event"), id=cursor, **shown)


def event_of(shown: Mapping[str, Any]) -> tuple[str, Event]:
    """The cursor and the event of a document."""
    return shown["id"], EVENT.decode(shown)


def page(events: Sequence[tuple[str, Event]], cursor: str, *, gap: bool) -> dict[str, Any]:
    """Some events, and the cursor behind them. `gap`: events before them were deleted."""
    return document(events=[event(*each) for each in events], next=cursor, gap=gap)


def page_of(shown: Mapping[str, Any]) -> EventPage:
    """The page in a document."""
    return EventPage([event_of(each) for each in shown["events"]], shown["next"], shown.get("gap", False))
