"""The document of statistics. Only the commands that show it load this module."""

from collections.abc import Mapping
from typing import Any

import msgspec

from queuectl.service.shapes.record import build, document, instant
from queuectl.service.stats import Stats


def stats(found: Stats) -> dict[str, Any]:
    """Statistics as a document."""
    return document(
        since=instant(found.since),
        until=instant(found.until),
        complete_until=instant(found.complete_until),
        rows=[msgspec.to_builtins(row) for row in found.rows],
    )


def stats_of(shown: Mapping[str, Any]) -> Stats:
    """Statistics, from their document."""
    return build(shown, Stats)
