"""A filter as the values that columns store. Each driver builds its own query from them."""

from collections.abc import Iterator
from typing import Any

from queuectl.domain.job import STATES, State
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput
from queuectl.store.driver import codec


def asked(wanted: Filter) -> Iterator[tuple[str, list[Any]]]:
    """Each set field except `states`, with the values to bind: two for a range, a list as JSON."""
    for field in _FIELDS:
        value = getattr(wanted, field)
        if value is not None and value != ():
            yield field, _bound(field, value)


def literals(states: frozenset[State]) -> str:
    """These states as SQL literals, so that partial indexes are used. Raises InvalidInput for an unknown state."""
    unknown = states.difference(STATES)
    if unknown:
        raise InvalidInput(f"there is no state {min(unknown)!r}", f"the states are {', '.join(STATES)}")
    return ", ".join(f"'{state}'" for state in STATES if state in states)


def counted(queue: str, state: State, wanted: Filter) -> bool:
    """Whether a filter on queue and states alone includes this count."""
    return wanted.queue in (None, queue) and (not wanted.states or state in wanted.states)


_FIELDS = tuple(field for field in Filter.__struct_fields__ if field != "states")


def _bound(field: str, value: Any) -> list[Any]:
    if field in ("created_since", "ended_before"):
        return [codec.micros(value)]
    if field == "waiting_for":
        return [codec.to_json(value)]
    # No id contains the last Unicode character, so this is the range of the prefix in the index of ids.
    return [value, f"{value}\U0010ffff"] if field == "id_prefix" else [value]
