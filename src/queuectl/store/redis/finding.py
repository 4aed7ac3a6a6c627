"""Reading jobs: by id, by filter a page at a time, and counting.

Every order has a sorted set of numbers, and so has every state, tag, batch and key. A page is walked along one of them,
some hundreds of jobs at a time, and each is asked whether it matches: what is wanted of few jobs along the smallest.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from queuectl.domain.job import STATES, Job
from queuectl.domain.query import Counts, Filter, Found, Page, Sort, matches
from queuectl.store import codec, filters
from queuectl.store.redis import rows
from queuectl.store.redis.connections import Line

STRIDE = 500


def get(line: Line, ids: Sequence[str]) -> dict[str, Job]:
    """The jobs with these ids."""
    return {job.id: job for job in _fetch(line, "id", ids)}


def find(line: Line, wanted: Filter, page: Page) -> Found:
    """One page; one job more is read to know whether there is another."""
    filters.literals(wanted.states)  # refuses a state that is none
    after = None if page.after is None else codec.position(page.after, page.sort)
    if _is_selective(wanted):
        found = sorted(_few(line, wanted), key=lambda job: codec.place(job, page.sort))
        rest = (job for job in found if after is None or codec.place(job, page.sort) > after)
    else:
        rest = (job for job in _walk(line, wanted, page.sort, after) if matches(job, wanted))
    jobs = list(islice(rest, page.limit + 1))
    shown = jobs[: page.limit]
    return Found(shown, codec.cursor(shown[-1], page.sort) if len(jobs) > len(shown) and shown else None)


def counts(line: Line, wanted: Filter) -> Counts:
    """Per queue and state: from the counters where that is enough."""
    filters.literals(wanted.states)
    found = Counts({})
    if wanted == Filter(queue=wanted.queue, states=wanted.states):
        for standing, count in _pairs(line.call("HGETALL", line.key("counts"))):
            state, _, queue = standing.partition(" ")
            if filters.counted(queue, state, wanted):  # type: ignore[arg-type]
                found.queues.setdefault(queue, {})[state] = int(count)  # type: ignore[index]
        return found
    source = _few(line, wanted) if _is_selective(wanted) else _walk(line, wanted, "created", None)
    for job in source:
        if matches(job, wanted):
            states = found.queues.setdefault(job.queue, {})
            states[job.state] = states.get(job.state, 0) + 1
    return found


def _pairs(flat: list[bytes]) -> Iterator[tuple[str, str]]:
    words = [word.decode() for word in flat]
    return zip(words[::2], words[1::2], strict=True)


def _is_selective(wanted: Filter) -> bool:
    """Whether an index names the jobs that can be meant, and they are few as a rule."""
    return bool(
        wanted.number is not None
        or wanted.id_prefix
        or wanted.unique_key is not None
        or wanted.waiting_for
        or wanted.worker is not None
        or wanted.tag is not None
        or wanted.batch is not None
    )


def _few(line: Line, wanted: Filter) -> Iterator[Job]:
    """All jobs that match, in no order."""
    numbers = _candidates(line, wanted)
    return (job for job in _fetch(line, "number", numbers) if matches(job, wanted))


def _candidates(line: Line, wanted: Filter) -> list[bytes | str]:
    if wanted.number is not None:
        return [f"{wanted.number:016}"]
    if wanted.unique_key is not None:
        return list(line.call("ZRANGE", line.key(f"by:key:{wanted.unique_key}"), 0, -1))
    if wanted.worker is not None:
        return list(line.call("ZRANGE", line.key("leased"), 0, -1))
    if wanted.waiting_for:
        return list(line.call("SUNION", *[line.key(f"waits:{parent}") for parent in wanted.waiting_for]))
    if wanted.id_prefix:
        first, last = f"[{wanted.id_prefix}", f"[{wanted.id_prefix}\U0010ffff"
        ids = line.call("ZRANGEBYLEX", line.key("names"), first, last)
        return [number for number in line.call("HMGET", line.key("ids"), *ids) if number] if ids else []
    mark = f"tag:{wanted.tag}" if wanted.tag is not None else f"batch:{wanted.batch}"
    return list(line.call("ZRANGE", line.key(f"by:{mark}"), 0, -1))


def _walk(line: Line, wanted: Filter, sort: Sort, after: tuple[int, ...] | None) -> Iterator[Job]:
    """Jobs in the order, behind a place; of the states that are meant where the order is that of creation."""
    by_state = sort == "created" and wanted.states and len(wanted.states) < len(STATES)
    indexes: list[str] = [f"state:{state}" for state in sorted(wanted.states)] if by_state else [sort]
    down = sort != "next"
    start = ("+inf" if down else "-inf") if after is None else str(_score(sort, after))
    for job in _along(line, indexes, start, down=down):
        if after is None or codec.place(job, sort) > after:
            yield job


def ended(line: Line) -> Iterator[Job]:
    """Jobs that have ended, longest ago first."""
    return _along(line, ["ended"], "-inf", down=False)


def _along(line: Line, indexes: list[str], start: str, *, down: bool) -> Iterator[Job]:
    """The jobs of sorted sets from a score on, some hundreds at a time, whatever is added meanwhile."""
    skipped = 0
    while True:
        order = "down" if down else "up"
        numbers, scores, found = line.run("page", order, start, skipped, STRIDE, *indexes)
        yield from map(rows.job, found)
        if len(numbers) < STRIDE:
            return
        last = scores[-1].decode()
        skipped = (skipped if last == start else 0) + sum(score.decode() == last for score in scores)
        start = last


def _score(sort: Sort, after: tuple[int, ...]) -> int:
    return after[0] if sort == "next" else -after[0]


def by_number(line: Line, numbers: Sequence[int]) -> list[Job]:
    """The jobs with these numbers."""
    return list(_fetch(line, "number", [f"{number:016}" for number in numbers]))


def _fetch(line: Line, by: str, keys: Sequence[bytes | str]) -> Iterator[Job]:
    """Jobs in the order of the keys; those that are gone are left out."""
    for start in range(0, len(keys), STRIDE):
        for row in line.run("fetch", by, *keys[start : start + STRIDE]):
            yield rows.job(row)
