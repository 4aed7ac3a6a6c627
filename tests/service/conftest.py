"""Services over the memory store with a stepped clock, and a store that simulates concurrent changes."""

from collections.abc import Callable
from typing import Any

import pytest

from contract.grounds import SteppedClock
from queuectl.config import Settings, resolve
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore

Meanwhile = Callable[[], object]


class Overtaken:
    """A store that runs another function before or after the calls of one verb, once or every time."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._before: dict[str, list[Meanwhile]] = {}
        self._after: dict[str, list[Meanwhile]] = {}
        self._instead: dict[str, Callable[..., Any]] = {}
        self.calls: dict[str, int] = {}

    def before(self, verb: str, *acts: Meanwhile) -> "Overtaken":
        """Each act is done before one call of the verb, in order."""
        self._before.setdefault(verb, []).extend(acts)
        return self

    def after(self, verb: str, *acts: Meanwhile) -> "Overtaken":
        """Each act is done after one call of the verb, before its answer arrives."""
        self._after.setdefault(verb, []).extend(acts)
        return self

    def replace(self, verb: str, call: Callable[..., Any]) -> None:
        """Call this function instead of the verb."""
        self._instead[verb] = call

    def __getattr__(self, verb: str) -> Any:
        real = self._instead.get(verb) or getattr(self._store, verb)

        def call(*args: Any, **options: Any) -> Any:
            self.calls[verb] = self.calls.get(verb, 0) + 1
            self._act(self._before.get(verb))
            answer = real(*args, **options)
            self._act(self._after.get(verb))
            return answer

        return call

    def _act(self, acts: list[Meanwhile] | None) -> None:
        if acts:
            acts.pop(0)()


def settings_of(**shared: str) -> Settings:
    """The defaults, with these written over them."""
    return resolve({}, {}, {}, shared)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def store(clock: SteppedClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def overtaken(store: MemoryStore) -> Overtaken:
    return Overtaken(store)


@pytest.fixture
def settings() -> Settings:
    return settings_of()


@pytest.fixture
def queue(store: MemoryStore) -> LocalQueue:
    """The front door over the store, with default settings."""
    return LocalQueue(store, Sources({}, None, print))
