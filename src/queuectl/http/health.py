"""A probe of the store in the background: its newest result answers `/readyz` and `/metrics`.

A request never calls the store for them, so a hundred probers cost as much as one, and a prober gets its answer while
the store does not answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.figures import Tally
from queuectl.errors import QueuectlError, StoreUnavailable
from queuectl.service.consumption import Vitals

log = logging.getLogger("queuectl.http")

PERIOD = 2.0
"""Seconds from the end of one probe to the start of the next."""

PATIENCE = 2.0
"""A store that takes more seconds for one probe counts as one that does not answer."""


SHARE = 0.02
"""The share of the time that reading figures may take. With many busy workers they are then read more rarely."""


class Probed(Protocol):
    """What a probe needs of the queue."""

    def vitals(self) -> Vitals:
        """The vital signs of the store."""

    def sums(self) -> Sequence[tuple[str, Tally]]:
        """The figures since the beginning, per queue."""

    def describe(self) -> Any:
        """The properties of the store."""


class About(Struct, frozen=True):
    """What kind of store it is, as the scheme of its URL, and what an acknowledged write survives."""

    kind: str
    durability: str


class Result(Struct, frozen=True):
    """The result of one probe.

    vitals     the vital signs; None if the store did not answer in time
    sums       the figures since the beginning, per queue
    fault      why there are none
    is_usable  false if the store answered and must not be used: another schema, damage
    """

    vitals: Vitals | None = None
    about: About | None = None
    seconds: float = 0.0
    sums: Sequence[tuple[str, Tally]] = ()
    fault: str | None = None
    is_usable: bool = True


class Health:
    """The probe of one server."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._result = Result(fault="the store was not asked yet")
        self._ended_at: float | None = None
        self._about: About | None = None
        self._sums: tuple[float, Sequence[tuple[str, Tally]]] = 0.0, ()
        self._first, self._ending = threading.Event(), threading.Event()

    @property
    def newest(self) -> Result:
        """The result of the newest probe; a fault if the one that runs now has taken too long."""
        if self._ended_at is not None and self._monotonic() - self._ended_at > PERIOD + PATIENCE:
            return Result(fault=f"the store has not answered for {PATIENCE:g} s")
        return self._result

    @contextmanager
    def probing(self, queue: Probed, *, wait: bool = True) -> Iterator[None]:
        """Probe in a thread while the block runs. `wait`: begin the block with a result, if there is one soon.

        The thread is a daemon: it may wait for a store that does not answer, and must not delay the end.
        """
        threading.Thread(target=self._run, args=(queue,), name="queuectl-probe", daemon=True).start()
        if wait:
            self._first.wait(PATIENCE)
        try:
            yield
        finally:
            self._ending.set()

    def probe(self, queue: Probed) -> None:
        """Probe once."""
        start = self._monotonic()
        result = self._ask(queue)
        self._ended_at = self._monotonic()
        took = self._ended_at - start
        if took > PATIENCE:
            result = Result(fault=f"the store took {took:.1f} s to answer")
        if result.vitals is None:
            self._about, self._sums = (
                None,
                (0.0, ()),
            )  # an administrator may replace the store during an outage
        self._result = replace(result, about=self._about, seconds=took)
        self._first.set()

    def _ask(self, queue: Probed) -> Result:
        try:
            if self._about is None:
                found = queue.describe()
                self._about = About(found.url.partition(":")[0], found.durability)
            return Result(queue.vitals(), sums=self._read_sums(queue))
        except StoreUnavailable as error:
            return Result(fault=error.message)
        except QueuectlError as error:
            return Result(fault=error.message, is_usable=False)

    def _read_sums(self, queue: Probed) -> Sequence[tuple[str, Tally]]:
        start = self._monotonic()
        if start >= self._sums[0]:
            found = queue.sums()
            end = self._monotonic()
            self._sums = end + (end - start) / SHARE, found
        return self._sums[1]

    def _run(self, queue: Probed) -> None:
        while True:
            try:
                self.probe(queue)
            except Exception as error:  # a fault of the program must not leave an old result behind for ever
                if self._ending.is_set():
                    return
                log.exception("the probe of the store failed")
                self._result = Result(fault=f"the probe failed: {type(error).__name__}")
                self._ended_at = self._monotonic()
            if self._ending.wait(PERIOD):
                return
