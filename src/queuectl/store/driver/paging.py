"""Reads more rows if some rows cannot be decoded, because such rows do not count as jobs of a page."""

from collections.abc import Callable

from queuectl.domain.job import Job
from queuectl.domain.query import Found, Page, Unreadable
from queuectl.store.driver import codec

Look = Callable[[int], tuple[list[Job], list[Unreadable]]]
"""A function that reads at most this many first rows of an order. Returns the jobs, and the undecodable rows."""


def first(look: Look, count: int) -> tuple[list[Job], list[Unreadable]]:
    """The first `count` jobs, and the rows between them that cannot be decoded."""
    more = 0
    while True:
        jobs, damaged = look(count + more)
        if len(jobs) >= count or len(jobs) + len(damaged) < count + more:
            return jobs[:count], damaged
        more = max(2 * more, len(damaged))


def found(look: Look, page: Page) -> Found:
    """One page. One more job is read, which shows whether another page follows."""
    return cut(*first(look, page.limit + 1), page)


def cut(jobs: list[Job], damaged: list[Unreadable], page: Page) -> Found:
    """One page. A job more than it has shows that another page follows."""
    shown = jobs[: page.limit]
    after = codec.cursor(shown[-1], page.sort) if len(jobs) > len(shown) and shown else None
    return Found(shown, after, damaged)
