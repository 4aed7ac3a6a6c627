"""The jobs that match a filter: one page of a list, all ids, counts, and a preview of an operation.

A store decides a `Filter`. Of a `Where` it decides a part, and the other terms are compared here job by job.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.job import Job, State
from queuectl.domain.query import Counts, Filter, Found, Page, Unreadable
from queuectl.domain.where import EVERY, Where
from queuectl.service import listing, paging
from queuectl.store.protocol import Store

Wanted = Filter | Where
LOOKED_AT = 10_000
"""Number of jobs that one page of a list looks at."""
SAMPLE = 5


class Preview(Struct, frozen=True):
    """What an operation would change: the number of jobs, in all and by state, and the ids of the first ones."""

    matched: int
    by_state: dict[State, int]
    sample: list[str]


def page(store: Store, wanted: Wanted, page: Page) -> Found:
    """One page of the jobs that match.

    Jobs are read until the page is full, at most `LOOKED_AT`. Then the page is short, and `Found.next` goes on.
    """
    if isinstance(wanted, Filter) or wanted.exact:
        return listing.jobs(store, wanted.filter if isinstance(wanted, Where) else wanted, page)
    jobs, damaged, looked_at = list[Job](), list[Unreadable](), 0
    for begin, found in _candidates(store, wanted, page):
        looked_at += len(found.jobs)
        matching = [job for job in found.jobs if wanted.matches(job)]
        left = page.limit - len(jobs)
        if len(matching) > left or (len(matching) == left and matching[-1] is not found.jobs[-1]):
            end = _up_to(store, wanted, replace(page, after=begin), found.jobs.index(matching[left - 1]) + 1)
            return Found([*jobs, *matching[:left]], end.next, [*damaged, *end.unreadable])
        jobs += matching
        damaged += found.unreadable
        if len(jobs) == page.limit or found.next is None:
            return Found(jobs, found.next, damaged)
        if looked_at >= LOOKED_AT:
            return Found(jobs, found.next, damaged, looked_at)
    return Found(jobs, None, damaged)


def ids(store: Store, wanted: Wanted) -> list[str]:
    """The ids of all jobs that match, newest first."""
    return [id for step in select(store, wanted) for id in step]


def select(store: Store, wanted: Wanted) -> Iterator[list[str]]:
    """The ids of all jobs that match, newest first, a page at a time. Jobs that are added meanwhile are left out."""
    where = Where("", wanted, (), EVERY) if isinstance(wanted, Filter) else wanted
    for _, found in _candidates(store, where, Page()):
        if matching := [job.id for job in found.jobs if where.matches(job)]:
            yield matching


def counts(store: Store, wanted: Wanted) -> Counts:
    """The number of jobs that match, per queue and state. Every job is read if the store cannot count them."""
    if isinstance(wanted, Filter) or wanted.exact:
        return store.counts(wanted.filter if isinstance(wanted, Where) else wanted)
    queues: dict[str, dict[State, int]] = {}
    for jobs, _ in walk(store, wanted):
        for job in jobs:
            per_state = queues.setdefault(job.queue, {})
            per_state[job.state] = per_state.get(job.state, 0) + 1
    return Counts(queues)


def count(store: Store, wanted: Where) -> int:
    """The number of jobs that an operation on this filter would look up."""
    if wanted.limit is not None:
        return preview(store, wanted).matched
    return counts(store, wanted).total()


def preview(store: Store, wanted: Where) -> Preview:
    """What an operation on the jobs that match would change."""
    if wanted.exact and wanted.limit is None:
        states = store.counts(wanted.filter).states()
        first = store.find(wanted.filter, Page(limit=SAMPLE, sort="number")).jobs
        return Preview(sum(states.values()), states, [job.id for job in first])
    by_state: dict[State, int] = {}
    sample = list[str]()
    for jobs, _ in walk(store, wanted):
        for job in jobs:
            by_state[job.state] = by_state.get(job.state, 0) + 1
        sample += [job.id for job in jobs[: SAMPLE - len(sample)]]
    return Preview(sum(by_state.values()), by_state, sample)


def walk(
    store: Store, wanted: Where, also: Callable[[Job], bool] = lambda job: True
) -> Iterator[tuple[list[Job], int]]:
    """The jobs that match, in the order of their numbers, some hundreds at a time.

    Yields, for each part of the store that was read, the matching jobs (perhaps none) and the last number that was
    looked at. Ends at the greatest number that is assigned now, so jobs that are added meanwhile do not prolong it.
    """
    high = min(wanted.numbers[1], store.last_number())
    left = wanted.limit
    bounded = replace(wanted, numbers=(wanted.numbers[0], high))
    for _, found in _candidates(store, bounded, Page(sort="number")):
        within = (job for job in found.jobs if job.number <= high)
        jobs = [job for job in within if wanted.matches(job) and also(job)][:left]
        last = min(found.jobs[-1].number, high) if found.jobs else high
        left = None if left is None else left - len(jobs)
        yield jobs, jobs[-1].number if left == 0 and jobs else last
        if left == 0:
            return


def _candidates(store: Store, wanted: Where, page: Page) -> Iterator[tuple[str | None, Found]]:
    """The jobs that match the filter of the store, page by page, each with the cursor before it.

    A list in the order of the numbers reads only the range of numbers that can match.
    """
    low, high = max(wanted.numbers[0], 0), wanted.numbers[1]
    if low > high:
        return
    after = page.after or _before(page.sort, low, high)
    limit = min(paging.BATCH, high - low + 1) if page.sort in ("created", "number") else paging.BATCH
    while True:
        found = listing.jobs(store, wanted.filter, replace(page, after=after, limit=limit))
        within = _within(found, page.sort, low, high)
        yield after, within
        if (after := within.next) is None:
            return


def _before(sort: str, low: int, high: int) -> str | None:
    """The cursor before the first number of a range."""
    if sort == "number" and low > 0:
        return str(low - 1)
    return str(-high - 1) if sort == "created" and high < EVERY[1] else None


def _within(found: Found, sort: str, low: int, high: int) -> Found:
    """The page without a next page if it reached the end of the range of numbers."""
    if sort not in ("created", "number") or not found.jobs:
        return found
    last = found.jobs[-1].number
    ends = last >= high if sort == "number" else last <= low
    return replace(found, next=None) if ends else found


def _up_to(store: Store, wanted: Where, page: Page, count: int) -> Found:
    """So many jobs from a cursor on: their end is the cursor behind a job in the middle of a page."""
    start = page.after or _before(page.sort, *wanted.numbers)
    return listing.jobs(store, wanted.filter, replace(page, after=start, limit=count))
