"""Measures the calls of a store, for the metrics of a server."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from queuectl.store.protocol import Store

UNTIMED = frozenset(("now", "subscribe", "background_fault", "close"))
"""Verbs that usually do not call the store."""


def timed(store: Store, note: Callable[[str, float], None]) -> Store:
    """The same store. `note` gets the verb and the seconds of each call, also of one that failed."""
    return cast(Store, _TimedStore(store, note))


class _TimedStore:
    def __init__(self, store: Store, note: Callable[[str, float], None]) -> None:
        self._store, self._note = store, note

    def __getattr__(self, verb: str) -> Any:
        """Called for the first use of each verb only: the method is then an attribute."""
        method = getattr(self._store, verb)
        if verb in UNTIMED:
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            start = perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self._note(verb, perf_counter() - start)

        setattr(self, verb, call)
        return call
