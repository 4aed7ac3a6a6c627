"""Changes entries of the shared tables, and adds their jobs in the same transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime

import apsw

from queuectl.store.driver import codec
from queuectl.store.driver.sql import swapping
from queuectl.store.protocol import Swap
from queuectl.store.sqlite import write
from queuectl.store.sqlite.sql import statements

SQL = statements("registry")


def swap(connection: apsw.Connection, swaps: Sequence[Swap], now: Callable[[], datetime]) -> list[bool]:
    """Make each change whose entry has the given version. Runs inside a transaction of the writer."""
    return [_swap(connection, each, now) for each in swaps]


def _swap(connection: apsw.Connection, swap: Swap, now: Callable[[], datetime]) -> bool:
    connection.execute(SQL[swapping(swap)], codec.swap(swap))
    made = connection.changes() > 0
    if made and swap.adding:
        write.add(connection, swap.adding, now, swap.telling)
    return made
