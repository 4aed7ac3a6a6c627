"""The fields of a filter (`domain/where.py`): how a term with this field compares a job."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, get_args

from msgspec import Struct

from queuectl.domain.instant import parse_instant
from queuectl.domain.job import STATES, Attempt, Cause, Job
from queuectl.domain.outcome import Kind
from queuectl.domain.quantity import parse_duration
from queuectl.errors import InvalidInput

Test = Callable[[Job], bool]
GREATEST = 1 << 62
"""Greater than every number in a filter."""


class Term(Struct, frozen=True):
    """One term, as it was written. `opposite`: a job matches if it does not match the values."""

    field: str
    values: tuple[str, ...]
    opposite: bool = False


def test_of(term: Term, now: datetime) -> Test:
    """The function that decides a term for a job."""
    make = FIELDS.get(term.field, _of_meta)
    test = make(term, now)
    return (lambda job: not test(job)) if term.opposite else test


def _of_word(read: Callable[[Job], Any]) -> Callable[[Term, datetime], Test]:
    """A field with one word or several: equal to one of the values, or begins with one that ends in `*`."""

    def make(term: Term, _: datetime) -> Test:
        exact = frozenset(value for value in term.values if not value.endswith("*"))
        begins = tuple(value[:-1] for value in term.values if value.endswith("*"))

        def test(job: Job) -> bool:
            found = read(job)
            words = found if isinstance(found, tuple) else () if found is None else (found,)
            return any(word in exact or word.startswith(begins) for word in words)

        return test

    return make


def _of_set(read: Callable[[Job], Any], known: Sequence[str]) -> Callable[[Term, datetime], Test]:
    """A field with a closed set of values."""

    def make(term: Term, _: datetime) -> Test:
        for value in term.values:
            if value not in known:
                raise InvalidInput(f"{term.field}: there is no {term.field} {value!r}", nearest(value, known))
        wanted = frozenset(term.values)
        return lambda job: read(job) in wanted

    return make


def _of_number(read: Callable[[Job], int | None]) -> Callable[[Term, datetime], Test]:
    """A field with a whole number: one of the ranges contains it."""

    def make(term: Term, _: datetime) -> Test:
        ranges = [range_of(term.field, value) for value in term.values]

        def test(job: Job) -> bool:
            number = read(job)
            return number is not None and any(low <= number <= high for low, high in ranges)

        return test

    return make


def _of_time(read: Callable[[Job], datetime | None], *, within: bool) -> Callable[[Term, datetime], Test]:
    """A field with a time: at or after the given one (`within`), or before it."""

    def make(term: Term, now: datetime) -> Test:
        at = time_of(term, now)

        def test(job: Job) -> bool:
            found = read(job)
            return found is not None and (found >= at if within else found < at)

        return test

    return make


def _of_text(read: Callable[[Job], str | None]) -> Callable[[Term, datetime], Test]:
    """A field with a text: equal to a value, or contains the part that follows `~`, in any case."""

    def make(term: Term, _: datetime) -> Test:
        exact = frozenset(value for value in term.values if not value.startswith("~"))
        parts = [value[1:].casefold() for value in term.values if value.startswith("~")]

        def test(job: Job) -> bool:
            text = read(job)
            if text is None:
                return False
            return text in exact or (bool(parts) and any(part in text.casefold() for part in parts))

        return test

    return make


def _of_meta(term: Term, now: datetime) -> Test:
    name = term.field.removeprefix("meta.")
    return _of_text(lambda job: _as_text(job.spec.meta[name]) if name in job.spec.meta else None)(term, now)


def _as_text(value: Any) -> str:
    """A value of `meta` as it is written in a filter: `true`, `null`, `3`, `web`."""
    words = {True: "true", False: "false", None: "null"}
    if isinstance(value, bool) or value is None:
        return words[value]
    return str(value)


def _last(job: Job) -> Attempt | None:
    return job.history[-1] if job.history else None


def _worker(job: Job) -> str | None:
    if job.lease is not None:
        return job.lease.worker
    last = _last(job)
    return last.worker if last else None


def _outcome(job: Job) -> str | None:
    last = _last(job)
    return last.outcome if last else None


def _signal(job: Job) -> int | None:
    last = _last(job)
    return last.signal if last else None


def _ended_at(job: Job) -> datetime | None:
    return job.finished_at if job.ended else None


FIELDS: dict[str, Callable[[Term, datetime], Test]] = {
    "state": _of_set(lambda job: job.state, STATES),
    "queue": _of_word(lambda job: job.queue),
    "tag": _of_word(lambda job: job.spec.tags),
    "batch": _of_word(lambda job: job.spec.batch),
    "schedule": _of_word(lambda job: job.spec.schedule),
    "id": _of_word(lambda job: job.id),
    "worker": _of_word(_worker),
    "cause": _of_set(lambda job: job.cause, get_args(Cause)),
    "outcome": _of_set(_outcome, get_args(Kind)),
    "number": _of_number(lambda job: job.number),
    "attempts": _of_number(lambda job: job.attempts),
    "priority": _of_number(lambda job: job.priority),
    "exit": _of_number(lambda job: job.exit_code),
    "signal": _of_number(_signal),
    "since": _of_time(lambda job: job.created_at, within=True),
    "before": _of_time(lambda job: job.created_at, within=False),
    "ended": _of_time(_ended_at, within=True),
    "older": _of_time(_ended_at, within=False),
    "after": _of_word(lambda job: tuple(parent.job for parent in job.spec.after)),
    "cmd": _of_text(lambda job: job.spec.command if job.spec.argv is None else " ".join(job.spec.argv)),
    "error": _of_text(lambda job: job.last_error),
}
"""The fields of a filter; `meta.NAME` is one more."""


# Values


def range_of(field: str, value: str) -> tuple[int, int]:
    """The smallest and the greatest number of a value such as `3`, `1-5`, `>2`, `<=0`."""
    low, high = -GREATEST, GREATEST
    if found := _COMPARISON.fullmatch(value):
        number = int(found["number"])
        return {
            ">": (number + 1, high),
            ">=": (number, high),
            "<": (low, number - 1),
            "<=": (low, number),
            None: (number, number),
        }[found["sign"]]
    if found := _RANGE.fullmatch(value):
        first, last = int(found["first"]), int(found["last"])
        if first > last:
            raise InvalidInput(f"{field}: the range {value} is empty", f"write {last}-{first}")
        return first, last
    raise InvalidInput(
        f"{field}: {value!r} is not a number", f"for example: {field}:3, {field}:1-5,9 or {field}:>2"
    )


_COMPARISON = re.compile(r"(?P<sign>[<>]=?)?(?P<number>-?[0-9]{1,18})")
_RANGE = re.compile(r"(?P<first>-?[0-9]{1,18})-(?P<last>-?[0-9]{1,18})")


def time_of(term: Term, now: datetime) -> datetime:
    """The time of a term: so long before now, or the given one."""
    if len(term.values) > 1:
        raise InvalidInput(f"{term.field}: one time is expected, not {len(term.values)}")
    [value] = term.values
    if value[:4].isdigit() and value[4:5] == "-":
        at = parse_instant(value)
        if at.tzinfo is None:
            raise InvalidInput(
                f"{term.field}: {value} has no zone", f"for example: {term.field}:{at.isoformat()}Z"
            )
        return at
    try:
        return max(now - parse_duration(value), _FIRST)
    except InvalidInput as error:
        raise InvalidInput(
            f"{term.field}: {error.message}", "write 90, 2h, 7d, or a time with a zone"
        ) from error


_FIRST = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def nearest(word: str, known: Sequence[str]) -> str:
    """The hint for an unknown word: the nearest known one, or all of them."""
    import difflib  # imported only for an error: it takes 5 ms

    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
