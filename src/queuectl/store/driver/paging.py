"""Pages of jobs: the position of a job in a sort order, the cursor that names a position, and reading one page.

More rows are read if some of them cannot be decoded, because such rows do not count as jobs of a page.
"""

from collections.abc import Callable

from queuectl.domain.job import Job
from queuectl.domain.query import Found, Page, Sort, Unreadable
from queuectl.errors import InvalidInput
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
    after = cursor(shown[-1], page.sort) if len(jobs) > len(shown) and shown else None
    return Found(shown, after, damaged)


def position(job: Job, sort: Sort) -> tuple[int, ...]:
    """The position of a job in a sort order: numbers that rise from first to last and differ between jobs."""
    if sort == "created":
        return (-job.number,)
    if sort == "updated":
        return (-codec.micros(job.updated_at), -job.number)
    if sort == "number":
        return (job.number,)
    if sort == "ended":
        return (0 if job.finished_at is None else -codec.micros(job.finished_at), -job.number)
    return (job.sort_key, job.number)


def cursor(job: Job, sort: Sort) -> str:
    """The value of `Page.after` for the page after this job."""
    return ":".join(str(number) for number in position(job, sort))


def parse_cursor(cursor: str, sort: Sort) -> tuple[int, ...]:
    """The position that a cursor names. Raises InvalidInput."""
    try:
        numbers = tuple(int(part) for part in cursor.split(":"))
    except ValueError:
        numbers = ()
    if len(numbers) != (1 if sort in ("created", "number") else 2) or any(
        abs(number) >= 2**63 for number in numbers
    ):
        raise InvalidInput(
            f"{cursor!r} is not a cursor of a list sorted by {sort}", "begin at the first page"
        )
    return numbers


def parse_event_cursor(cursor: str, parts: int = 1) -> tuple[int, ...]:
    """The numbers of a cursor of events, which are joined by `-`. Raises InvalidInput."""
    numbers = cursor.split("-")
    if len(numbers) != parts or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise InvalidInput(f"{cursor[:60]!r} is no cursor of events", "copy the id of an event")
    return tuple(map(int, numbers))
