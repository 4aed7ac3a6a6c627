"""Lists of jobs, page by page."""

from collections.abc import Iterable

from msgspec.structs import replace

from queuectl.config import nearest
from queuectl.domain.job import STATES, TERMINAL, WAITING, State
from queuectl.domain.query import Filter, Found, Page, Sort
from queuectl.errors import InvalidInput
from queuectl.store.protocol import Store

FIRST: dict[Sort, frozenset[State]] = {"next": WAITING, "ended": TERMINAL}
"""The orders that are about jobs in some states only, with these states. Jobs in other states come last."""
BEHIND = "~"
"""The beginning of a cursor in such a list, after all jobs in these states were listed."""


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
    """One page of the jobs that match. Jobs that no claim can take are last in the order `next`, and jobs that have
    not ended are last in the order `ended`.
    """
    if page.sort not in FIRST:
        return store.find(wanted, page)
    first_states = FIRST[page.sort]
    others = frozenset(STATES) - first_states
    last: Sort = "created" if page.sort == "ended" else page.sort
    behind = page.after is not None and page.after.startswith(BEHIND)
    if not behind:
        first = _among(store, wanted, page, first_states)
        if first.next is not None or len(first.jobs) >= page.limit:
            return first if first.next is not None else replace(first, next=BEHIND)
        remaining = replace(page, after=None, limit=page.limit - len(first.jobs), sort=last)
        rest = _among(store, wanted, remaining, others)
        damaged = [*first.unreadable, *rest.unreadable]
        return Found([*first.jobs, *rest.jobs], rest.next and BEHIND + rest.next, damaged)
    after = (page.after or "").removeprefix(BEHIND) or None
    rest = _among(store, wanted, replace(page, after=after, sort=last), others)
    return replace(rest, next=rest.next and BEHIND + rest.next)


def _among(store: Store, wanted: Filter, page: Page, states: frozenset[State]) -> Found:
    meant = wanted.states & states if wanted.states else states
    return store.find(replace(wanted, states=meant), page) if meant else Found([], None)
