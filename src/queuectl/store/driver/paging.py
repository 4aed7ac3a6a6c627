"""Reading on where some of what was read cannot be decoded: it takes no place among what was asked for."""

from collections.abc import Callable

from queuectl.domain.job import Job
from queuectl.domain.query import Found, Page, Unreadable
from queuectl.store.driver import codec

Look = Callable[[int], tuple[list[Job], list[Unreadable]]]
"""The first rows of an order, so many: the jobs among them, and those that are none."""


def first(look: Look, count: int) -> tuple[list[Job], list[Unreadable]]:
    """The first jobs, so many, and what lies between them and cannot be decoded."""
    more = 0
    while True:
        jobs, damaged = look(count + more)
        if len(jobs) >= count or len(jobs) + len(damaged) < count + more:
            return jobs[:count], damaged
        more = max(2 * more, len(damaged))


def found(look: Look, page: Page) -> Found:
    """One page; one job more is read to know whether there is another."""
    jobs, damaged = first(look, page.limit + 1)
    shown = jobs[: page.limit]
    after = codec.cursor(shown[-1], page.sort) if len(jobs) > len(shown) and shown else None
    return Found(shown, after, damaged)
