"""Converts a filter to the values that columns store. Each driver builds its own query from these values."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queuectl.domain.job import STATES, Job, State
from queuectl.domain.query import Counts, Filter
from queuectl.errors import InvalidInput
from queuectl.store.driver import codec


def asked(wanted: Filter) -> Iterator[tuple[str, list[Any]]]:
    """Each field that is set, except `states`, with the values to bind: two for a range, JSON text for a list."""
    for field in _FIELDS:
        value = getattr(wanted, field)
        if value is not None and value != ():
            yield field, _bound(field, value)


def terms(wanted: Filter, names: Mapping[str, str], states: list[str]) -> tuple[str, list[Any]]:
    """A filter as SQL: constant terms, those of the states first, and the values to bind."""
    fields = list(asked(wanted))
    found = [*states, *(names[field] for field, _ in fields)]
    return " AND ".join(found) or "TRUE", [value for _, bound in fields for value in bound]


def literals(states: frozenset[State]) -> str:
    """These states as SQL literals, so that partial indexes are used. Raises InvalidInput for an unknown state."""
    unknown = states.difference(STATES)
    if unknown:
        raise InvalidInput(f"there is no state {min(unknown)!r}", f"the states are {', '.join(STATES)}")
    return ", ".join(f"'{state}'" for state in STATES if state in states)


def has_sums(wanted: Filter) -> bool:
    """Whether a filter is on queue and states alone. Stores keep counts for such a filter."""
    return wanted == Filter(queue=wanted.queue, states=wanted.states)


def counted(queue: str, state: State, wanted: Filter) -> bool:
    """Whether a filter that sets only queue and states includes this count."""
    return wanted.queue in (None, queue) and (not wanted.states or state in wanted.states)


def sums(parts: Iterable[tuple[str, State, int]]) -> Counts:
    """The sums of counts, each of a queue and a state."""
    found = Counts({})
    for queue, state, count in parts:
        states = found.queues.setdefault(queue, {})
        states[state] = states.get(state, 0) + count
    return found


def count(jobs: Iterable[Job]) -> Counts:
    """How many of these jobs there are, per queue and state."""
    return sums((job.queue, job.state, 1) for job in jobs)


_FIELDS = tuple(field for field in Filter.__struct_fields__ if field != "states")


def _bound(field: str, value: Any) -> list[Any]:
    if field in ("created_since", "ended_before"):
        return [codec.micros(value)]
    if field in ("waiting_for", "ids"):
        return [codec.to_json(value)]
    # No id contains the last Unicode character, so this is the range of the prefix in the index of ids.
    return [value, f"{value}\U0010ffff"] if field == "id_prefix" else [value]
