"""Changes entries of the shared tables, and adds their jobs. A batch is one call of a function of the schema."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from queuectl.store.driver import codec
from queuectl.store.postgres import write
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Swap

SQL = statements("registry")


def swap(line: Line, swaps: Sequence[Swap], now: datetime) -> list[bool]:
    """Make each change whose entry has the given version."""
    sent = [_sent(place, each, now) for place, each in enumerate(swaps, 1)]
    made: list[bool] = line.value(SQL["swap"], (codec.to_json(sent),))
    return made


def _sent(place: int, swap: Swap, now: datetime) -> dict[str, Any]:
    jobs = [write.newcomer(n, job, now) for n, job in enumerate(swap.adding)]
    adding = {"jobs": jobs or None, "events": swap.telling or None}
    return {**codec.swap(swap), "value": swap.value, "place": place, **adding}
