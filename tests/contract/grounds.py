"""Where the stores of the suite live: one class for each driver. A new one adds a class here and no more."""

import itertools
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from factories import NOW
from queuectl.clock import Clock
from queuectl.domain.query import Filter
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Store
from queuectl.store.sqlite import SqliteStore


class SteppedClock(Clock):
    """A clock that stands still until it is stepped."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def step(self, **duration: float) -> datetime:
        """Later by this much."""
        self._now += timedelta(**duration)
        return self._now


class Ground(Protocol):
    """One database. `open` gives another handle on it each time, all on the same clock."""

    clock: SteppedClock

    def open(self, **options: Any) -> Store: ...

    def close(self) -> None: ...


class MemoryGround:
    def __init__(self, _folder: Path) -> None:
        self.clock = SteppedClock()
        self._store: MemoryStore | None = None

    def open(self, **options: Any) -> Store:
        self._store = self._store or MemoryStore(clock=self.clock, **options)
        return self._store

    def close(self) -> None:
        pass


class SqliteGround:
    def __init__(self, folder: Path) -> None:
        self.clock = SteppedClock()
        self.path = folder / "queue.db"
        self._opened: list[Store] = []

    def open(self, **options: Any) -> Store:
        store = SqliteStore(self.path, clock=self.clock, **options)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


GROUNDS: dict[str, Callable[[Path], Ground]] = {"memory": MemoryGround, "sqlite": SqliteGround}


def named(wanted: Any) -> str:
    """A filter in a few words, the same in every process (a frozenset has no order to print)."""
    if not isinstance(wanted, Filter):
        return str(wanted)
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    words = [f"{k}={sorted(v) if isinstance(v, frozenset) else v}" for k, v in fields.items() if v or v == ""]
    return ",".join(words) or "everything"


def rising_tokens() -> Callable[[], str]:
    """Attempt ids that two stores give out alike."""
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):032x}"


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Run all at the same moment, each in a thread; their answers in order. An error of any is raised."""
    start, answers = threading.Barrier(len(calls)), [None] * len(calls)
    errors: list[BaseException] = []

    def run(place: int, call: Callable[[], Any]) -> None:
        start.wait()
        try:
            answers[place] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers
