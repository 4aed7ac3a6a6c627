"""Changes entries of the shared tables, and adds their jobs. Each change is one script."""

from collections.abc import Sequence
from itertools import starmap

from queuectl.store.driver import codec
from queuectl.store.protocol import Swap
from queuectl.store.redis import rows
from queuectl.store.redis.connect import Line
from queuectl.store.redis.write import NumberFloorUnknown


def swap(line: Line, swaps: Sequence[Swap], now: str) -> list[bool]:
    """Make each change whose entry has the given version. Raises NumberFloorUnknown; repeating the batch is safe."""
    return [_swap(line, each, now) for each in swaps]


def _swap(line: Line, swap: Swap, now: str) -> bool:
    sent = codec.swap(swap)
    named = (
        sent["table"],
        sent["key"],
        sent["version"],
        sent["value"] or "",
        "" if sent["due"] is None else sent["due"],
    )
    said = line.run("swap", now, *named, *starmap(rows.new, rows.with_events(swap.adding, swap.telling)))
    if said == b"unsure":
        raise NumberFloorUnknown
    return bool(said)
