"""Lists of jobs, page by page."""

from collections.abc import Iterable

from msgspec.structs import replace

from queuectl.config import nearest
from queuectl.domain.job import STATES, WAITING, State
from queuectl.domain.query import Filter, Found, Page
from queuectl.errors import InvalidInput
from queuectl.store.protocol import Store

OTHERS = frozenset(STATES) - WAITING
BEHIND = "~"
"""The beginning of a cursor in a list that is sorted by `next`, after all jobs that can be claimed were listed."""


def states_of(words: Iterable[str]) -> frozenset[State]:
    """The states with these names. Raises InvalidInput for an unknown name, with the nearest name."""
    found: set[State] = set()
    for word in words:
        state = next((state for state in STATES if state == word), None)
        if state is None:
            near = nearest(word, list(STATES)) or f"one of {', '.join(STATES)}"
            raise InvalidInput(f"there is no state {word!r}", near)
        found.add(state)
    return frozenset(found)


def jobs(store: Store, wanted: Filter, page: Page) -> Found:
    """One page of the jobs that match. With `next`, the next to run come first; jobs that no claim can take come
    last.
    """
    if page.sort != "next":
        return store.find(wanted, page)
    behind = page.after is not None and page.after.startswith(BEHIND)
    if not behind:
        first = _among(store, wanted, page, WAITING)
        if first.next is not None or len(first.jobs) >= page.limit:
            return first if first.next is not None else replace(first, next=BEHIND)
        rest = _among(store, wanted, replace(page, after=None, limit=page.limit - len(first.jobs)), OTHERS)
        damaged = [*first.unreadable, *rest.unreadable]
        return Found([*first.jobs, *rest.jobs], rest.next and BEHIND + rest.next, damaged)
    after = (page.after or "").removeprefix(BEHIND) or None
    rest = _among(store, wanted, replace(page, after=after), OTHERS)
    return replace(rest, next=rest.next and BEHIND + rest.next)


def _among(store: Store, wanted: Filter, page: Page, states: frozenset[State]) -> Found:
    meant = wanted.states & states if wanted.states else states
    return store.find(replace(wanted, states=meant), page) if meant else Found([], None)
