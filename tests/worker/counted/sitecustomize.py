"""A test puts this file on the path of a worker: each round of a loop writes a byte to a file, and timeouts are
short."""

import os
import selectors
import sys
from typing import Any

from queuectl.worker.holder import shutdown

shutdown.GIVE_UP = 1.0
_select = selectors.DefaultSelector.select


def count(loop: str) -> None:
    """Count one round of this loop."""
    # Opened each time: a holder closes what it was started with.
    file = os.open(
        f"{os.environ['QUEUECTL_TEST_TURNS']}.{loop}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    os.write(file, b".")
    os.close(file)


def _counted_select(self: Any, timeout: float | None = None) -> Any:
    count("holder")
    return _select(self, timeout)


def _count_agent() -> None:
    from queuectl.worker.agent.connection import Connection

    receive = Connection.receive

    def counted(self: Connection, timeout: float) -> Any:
        count("agent")
        return receive(self, timeout)

    Connection.receive = counted  # type: ignore[method-assign]


selectors.DefaultSelector.select = _counted_select  # type: ignore[method-assign]
if "queuectl.worker.agent" in sys.orig_argv:
    _count_agent()
