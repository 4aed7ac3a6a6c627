"""A process that fires schedules: `python -m e2e.firers CLOCK [stop]`. CLOCK is a file with the time, set by a test.

It does what the duty of a worker does, without the rest of a worker, and looks for due entries without a pause. With
`stop` it stops itself with SIGSTOP within its first fire, before it stores its decision.
"""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGSTOP
from threading import Event
from typing import Any, cast

from queuectl import bootstrap, config
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service import firing
from queuectl.service.settings import Sources
from queuectl.store.protocol import Store

PAUSE = 0.002
"""Seconds between two looks."""


class Clocked:
    """A store with another clock."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self.now = store, now

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)


def clocked(store: Store, clock: Path) -> Store:
    """The store whose clock is a file."""
    return cast(Store, Clocked(store, lambda: datetime.fromtimestamp(float(clock.read_text()), UTC)))


def set_clock(clock: Path, now: datetime) -> None:
    """Let the clock show this time."""
    new = clock.with_suffix(".new")
    new.write_text(str(now.timestamp()))
    new.rename(clock)


def main(clock: Path) -> None:
    """Fire until this process is killed."""
    url = bootstrap.store_url(Sources({}, None, print))
    store = clocked(bootstrap.open_store(url, config.resolve({}, {}, {}, {}), create=False), clock)
    pause = Event()
    while True:
        try:
            now = store.now()
            if due := [each for each in store.upcoming(firing.JOBS) if each.due <= now]:
                firing.fire(store, due)
        except (StoreUnavailable, OutcomeUnknown):
            pass  # as a worker: look again
        pause.wait(PAUSE)


def stop_within_a_fire() -> None:
    """Let this process stop at the point at which it has decided, and not stored."""
    reach = firing.crashpoint.reach

    def stop(name: str) -> None:
        if name == "before_fire":
            firing.crashpoint.reach = reach
            os.kill(os.getpid(), SIGSTOP)

    firing.crashpoint.reach = stop


if __name__ == "__main__":
    if sys.argv[2:] == ["stop"]:
        stop_within_a_fire()
    main(Path(sys.argv[1]))
