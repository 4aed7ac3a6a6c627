"""Reads jobs by id, or by filter page by page, and counts jobs.

Each sort order has a sorted set of job numbers, and so has each state, tag, batch and key. A page reads one of these
sets, some hundreds of jobs at a time, and checks each job against the filter. For a key, a batch or a tag with few
jobs, all of them are read and then sorted.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from queuectl.domain.job import STATES, TERMINAL, Job, State
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Sort, Unreadable, matches
from queuectl.errors import UnreadableJob
from queuectl.store.driver import codec, filters, paging
from queuectl.store.redis import rows
from queuectl.store.redis.connect import Line

Row = Sequence[bytes | None]
STRIDE = 501
"""Maximum number of jobs in one reply: those of a usual page, and the one that shows whether another page follows."""
FEW = 1000
"""Up to this many jobs are read completely and sorted in this process."""


def get(line: Line, ids: Sequence[str]) -> Jobs:
    """The jobs with these ids."""
    damaged = list[Unreadable]()
    return Jobs(list(_fetch(line, "id", ids, Filter(), damaged)), damaged)


def find(line: Line, wanted: Filter, page: Page) -> Found:
    """One page. One more job is read, which shows whether another page follows."""
    filters.literals(wanted.states)  # called only because it refuses an unknown state
    after = None if page.after is None else paging.parse_cursor(page.after, page.sort)
    numbers, damaged = _candidates(line, wanted), list[Unreadable]()
    if page.sort == "ended":
        rest = _last_ended(line, wanted, numbers, after, page.limit + 1, damaged)
    elif numbers is None:
        rest = _walk(line, wanted, page.sort, after, page.limit + 1, damaged)
    elif page.sort == "created":
        rest = _latest(line, wanted, numbers, after, damaged)
    else:
        matching = _matching(line, wanted, numbers, damaged)
        ordered = sorted(matching, key=lambda job: paging.position(job, page.sort))
        rest = (job for job in ordered if after is None or paging.position(job, page.sort) > after)
    return paging.cut(list(islice(rest, page.limit + 1)), damaged, page)


def counts(line: Line, wanted: Filter) -> Counts:
    """The number of jobs per queue and state, with archived jobs. Uses stored counts if the filter allows that."""
    filters.literals(wanted.states)
    if filters.has_sums(wanted):
        stored = (_standings(flat) for flat in line.run("counts"))
        return filters.sums(each for part in stored for each in part if filters.counted(*each[:2], wanted))
    few = _few(line, wanted)
    return filters.count(_walk(line, wanted, "created", None, STRIDE, []) if few is None else few)


def last_number(line: Line) -> int:
    """The highest number that was assigned."""
    return int(line.call("GET", line.key("number")) or 0)


def _standings(flat: list[bytes]) -> Iterator[tuple[str, State, int]]:
    """Each queue and state of a stored count."""
    for standing, count in zip(flat[::2], flat[1::2], strict=True):
        state, _, queue = standing.decode().partition(" ")
        yield queue, state, int(count)  # type: ignore[misc]


def _few(line: Line, wanted: Filter) -> Iterable[Job] | None:
    """All jobs that match, unordered, if an index contains the candidates and they are few. Otherwise None."""
    numbers = _candidates(line, wanted)
    return None if numbers is None else _matching(line, wanted, numbers, [])


def _matching(
    line: Line, wanted: Filter, numbers: Sequence[bytes | str], damaged: list[Unreadable]
) -> Iterator[Job]:
    """The jobs with these numbers that match. Jobs that cannot be decoded are added to `damaged`."""
    return (job for job in _fetch(line, "number", numbers, wanted, damaged) if matches(job, wanted))


def _latest(
    line: Line,
    wanted: Filter,
    numbers: Sequence[bytes | str],
    after: tuple[int, ...] | None,
    damaged: list[Unreadable],
) -> Iterator[Job]:
    """The jobs with these numbers that match, newest first, after a position. Jobs are read only when needed."""
    last = None if after is None else -after[0]
    places = sorted((int(number) for number in numbers), reverse=True)
    rest = [f"{number:016}" for number in places if last is None or number < last]
    return _matching(line, wanted, rest, damaged)


def _candidates(line: Line, wanted: Filter) -> list[bytes | str] | None:
    if wanted.number is not None:
        return [f"{wanted.number:016}"]
    if wanted.ids:
        return _numbers(line, wanted.ids)
    if wanted.worker is not None:
        return list(line.call("ZRANGE", line.key("leased"), 0, -1))
    if wanted.waiting_for:
        return list(line.call("SUNION", *[line.key(f"waits:{parent}") for parent in wanted.waiting_for]))
    if wanted.id_prefix:
        return _beginning(line, wanted.id_prefix)
    mark = _mark(wanted)
    if mark is None or line.call("ZCARD", line.key(mark)) > FEW:
        return None
    return list(line.call("ZRANGE", line.key(mark), 0, -1))


def _beginning(line: Line, prefix: str) -> list[bytes | str] | None:
    names, first, last = line.key("names"), f"[{prefix}", f"[{prefix}\U0010ffff"
    if line.call("ZLEXCOUNT", names, first, last) > FEW:
        return None
    return _numbers(line, line.call("ZRANGEBYLEX", names, first, last))


def _numbers(line: Line, ids: Sequence[bytes | str]) -> list[bytes | str]:
    """The numbers of the jobs with these ids."""
    return [number for number in line.call("HMGET", line.key("ids"), *ids) if number] if ids else []


def _mark(wanted: Filter) -> str | None:
    """The index of the jobs with the filter's key, batch or tag. None if the filter has none of these."""
    for name, value in (("key", wanted.unique_key), ("batch", wanted.batch), ("tag", wanted.tag)):
        if value is not None:
            return f"by:{name}:{value}"
    return None


def _walk(
    line: Line,
    wanted: Filter,
    sort: Sort,
    after: tuple[int, ...] | None,
    stride: int,
    damaged: list[Unreadable],
) -> Iterator[Job]:
    """The jobs that match, in order, after a position. Reads the index of a group or of the states if that has
    this order, otherwise the index of all jobs.

    `stride` is how many rows the first read has; later reads have more.
    """
    by_number = sort in ("created", "number")
    indexes: list[str] = ["created" if by_number else sort]
    if by_number and (mark := _mark(wanted)):
        indexes = [mark]
    elif by_number and wanted.states and len(wanted.states) < len(STATES):
        indexes = [f"state:{state}" for state in sorted(wanted.states)]
    down = sort not in ("next", "number")
    start = ("+inf" if down else "-inf") if after is None else str(_score(sort, after))
    for row in _along(line, indexes, start, "-inf" if down else "+inf", stride):
        job = _decoded(row, wanted, damaged)
        if job is None:
            continue
        if matches(job, wanted) and (after is None or paging.position(job, sort) > after):
            yield job


def _last_ended(
    line: Line,
    wanted: Filter,
    numbers: Sequence[bytes | str] | None,
    after: tuple[int, ...] | None,
    stride: int,
    damaged: list[Unreadable],
) -> Iterator[Job]:
    """The ended jobs that match, last ended first, after a position."""

    def position_of(job: Job) -> tuple[int, ...]:
        return paging.position(job, "ended")

    found: Iterable[Job]
    if numbers is not None:
        found = sorted(_matching(line, wanted, numbers, damaged), key=position_of)
    else:
        states = wanted.states & TERMINAL if wanted.states else TERMINAL
        start = "+inf" if after is None else str(-after[0])
        lines = [_along(line, [f"ended:{state}"], start, "-inf", stride) for state in sorted(states)]
        found = merge(*(_readable(rows, wanted, damaged) for rows in lines), key=position_of)
    return (
        job
        for job in found
        if job.ended and matches(job, wanted) and (after is None or position_of(job) > after)
    )


def ended(line: Line, wanted: Filter, limit: int) -> Iterator[Job]:
    """Ended jobs that match, longest ended first. `limit` is how many the caller needs."""
    few = _few(line, wanted)
    if few is not None:
        return iter(sorted((job for job in few if job.ended and job.finished_at), key=_end))
    states = wanted.states & TERMINAL if wanted.states else TERMINAL
    last = "+inf" if wanted.ended_before is None else f"({codec.micros(wanted.ended_before)}"
    lines = [_along(line, [f"ended:{state}"], "-inf", last, limit) for state in sorted(states)]
    jobs = merge(*(_readable(rows, Filter(), []) for rows in lines), key=_end)
    return (job for job in jobs if matches(job, wanted))


def _readable(found: Iterable[Row], wanted: Filter, damaged: list[Unreadable]) -> Iterator[Job]:
    jobs = (_decoded(row, wanted, damaged) for row in found)
    return (job for job in jobs if job is not None)


def _end(job: Job) -> tuple[int, int]:
    """The position of a job in the order of ends. Returns 0 for a job that was retried meanwhile."""
    return (0 if job.finished_at is None else codec.micros(job.finished_at), job.number)


def _along(line: Line, indexes: list[str], start: str, last: str, stride: int) -> Iterator[Row]:
    """The rows of sorted sets between two scores, a stride at a time. Entries may be added meanwhile."""
    skipped, order = 0, "down" if last == "-inf" else "up"
    while True:
        stride = min(stride, STRIDE)
        numbers, scores, found = line.run("page", order, start, last, skipped, stride, *indexes)
        yield from found
        if len(numbers) < stride:
            return
        end, stride = scores[-1].decode(), stride * 2
        if len(indexes) > 1:  # each score is unique here, so the next read begins after the last score
            start = f"({end}"
            continue
        skipped = (skipped if end == start else 0) + sum(score.decode() == end for score in scores)
        start = end


def _score(sort: Sort, after: tuple[int, ...]) -> int:
    return after[0] if sort in ("next", "number") else -after[0]


def by_number(line: Line, numbers: Sequence[int]) -> tuple[list[Job], list[Unreadable]]:
    """The jobs with these numbers. The second list contains the jobs that cannot be decoded."""
    damaged = list[Unreadable]()
    keys = [f"{number:016}" for number in numbers]
    return list(_fetch(line, "number", keys, Filter(), damaged)), damaged


def _fetch(
    line: Line, by: str, keys: Sequence[bytes | str], wanted: Filter, damaged: list[Unreadable]
) -> Iterator[Job]:
    """The jobs with these keys, in order. Deleted jobs are omitted."""
    for start in range(0, len(keys), STRIDE):
        for row in line.run("fetch", by, *keys[start : start + STRIDE]):
            job = _decoded(row, wanted, damaged)
            if job is not None:
                yield job


def _decoded(row: Row, wanted: Filter, damaged: list[Unreadable]) -> Job | None:
    """Decode a row. A job that cannot be decoded is added to `damaged` if its state and queue are wanted."""
    try:
        return rows.job(row)
    except UnreadableJob as error:
        state, queue = rows.standing(row)
        if (not wanted.states or state in wanted.states) and wanted.queue in (None, queue):
            damaged.append(Unreadable(error.id, error.number, error.reason))
        return None
