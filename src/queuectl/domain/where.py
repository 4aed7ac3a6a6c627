"""The filter language: `state:dead queue:mail exit:1 since:2h`.

A filter is a list of terms, and a job matches if it matches each of them. A term is a field, a colon, and values of
which one must match (`state:dead,failed`). `-` before a term means the opposite. Quotes keep spaces and commas
(`cmd:~"rsync -a"`). There are no brackets and no *or* between terms: a second command is clearer.

    state queue tag batch schedule id worker   the word, or its beginning: `queue:mail`, `id:nightly*`
    cause outcome                              one of a closed set: `cause:parent`, `outcome:timed_out`
    number attempts priority exit signal       a number, a range or a comparison: `number:1-5,9`, `attempts:>2`
    since before                               created within, or earlier than: `since:2h`, `before:2026-11-01T00:00Z`
    ended older                                ended within, or earlier than: `ended:1d`, `older:7d`
    cmd error                                  the text, or a part of it in any case: `error:~"connection refused"`
    after                                      waits for, or waited for, the job with this id
    meta.NAME                                  a value of `meta`: `meta.team:web`

`worker`, `outcome` and `signal` are about the running attempt or else the last one.

A store can decide some terms by an index (`Where.filter`); the others are compared job by job.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, get_args

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.instant import parse_instant
from queuectl.domain.job import STATES, Attempt, Cause, Job
from queuectl.domain.outcome import Kind
from queuectl.domain.quantity import parse_duration
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput

Test = Callable[[Job], bool]
LONGEST = 10_000
"""Maximum number of characters of a filter."""


class Term(Struct, frozen=True):
    """One term, as it was written. `opposite`: a job matches if it does not match the values."""

    field: str
    values: tuple[str, ...]
    opposite: bool = False


class Where(Struct, frozen=True):
    """A filter that was checked.

    text     the filter as it was written
    filter   all jobs that match are among the jobs that match this; a store decides it by an index
    numbers  the smallest and the greatest number that can match
    """

    text: str
    filter: Filter
    tests: tuple[Test, ...]
    numbers: tuple[int, int]

    def matches(self, job: Job) -> bool:
        """Whether the job matches every term."""
        return all(test(job) for test in self.tests)

    @property
    def looks_at_all(self) -> bool:
        """Whether every job of the store has to be read, because no term is decided by an index."""
        return self.filter == Filter() and self.numbers == EVERY


EVERY = (0, 1 << 62)
"""The range of all numbers."""


def parse(text: str, now: datetime) -> Where:
    """The filter in a text. `now` is the time of the store's clock, from which ages are counted.

    Raises InvalidInput for an empty text, an unknown field or value (with the nearest known one), and a missing quote.
    """
    if not text.strip():
        raise InvalidInput("the filter is empty", "for example: state:dead queue:mail; every job: number:>0")
    if len(text) > LONGEST:
        raise InvalidInput(f"the filter has more than {LONGEST} characters")
    wanted, tests, numbers = Filter(), list[Test](), EVERY
    for term in terms(text):
        tests.append(_test(term, now))
        if not term.opposite:
            wanted, numbers = _narrowed(wanted, numbers, term, now)
    return Where(text, wanted, tuple(tests), numbers)


def terms(text: str) -> Iterator[Term]:
    """The terms of a filter. Raises InvalidInput for text that is not a term, and for an unknown field."""
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        head = _HEAD.match(text, place)
        if head is None:
            word = text[place:].split()[0]
            raise InvalidInput(
                f"{word!r} is not a term of a filter", f"write a field and a value, for example: cmd:~{word}"
            )
        values, place = _values(text, head.end())
        yield _checked(Term(head["field"], values, bool(head["minus"])))


_HEAD = re.compile(r"(?P<minus>-?)(?P<field>meta\.[^:\s\"]+|[a-z_]+):")
_PART = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+)')


def _values(text: str, place: int) -> tuple[tuple[str, ...], int]:
    """The values that begin at a place, and the place behind them."""
    values = [""]
    while place < len(text) and not text[place].isspace():
        if text[place] == ",":
            values.append("")
            place += 1
            continue
        part = _PART.match(text, place)
        if part is None:
            raise InvalidInput(
                f"a quote is missing in {text[place:]!r}", 'write "…" around text with spaces or commas'
            )
        quoted = part["quoted"]
        values[-1] += part["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        place = part.end()
    return tuple(values), place


def _checked(term: Term) -> Term:
    if term.field not in FIELDS and not term.field.startswith("meta."):
        raise InvalidInput(
            f"a filter has no field {term.field!r}", _nearest(term.field, [*FIELDS, "meta.NAME"])
        )
    if "" in term.values or "~" in term.values:
        raise InvalidInput(
            f"{term.field}: a value is missing", f"for example: {term.field}:{_EXAMPLES.get(term.field, 'x')}"
        )
    return term


_EXAMPLES = {
    "state": "dead",
    "exit": "1",
    "since": "2h",
    "number": "1-5,9",
    "cmd": "~make",
    "error": "~refused",
}


# How a term compares a job


def _test(term: Term, now: datetime) -> Test:
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
                raise InvalidInput(
                    f"{term.field}: there is no {term.field} {value!r}", _nearest(value, known)
                )
        wanted = frozenset(term.values)
        return lambda job: read(job) in wanted

    return make


def _of_number(read: Callable[[Job], int | None]) -> Callable[[Term, datetime], Test]:
    """A field with a whole number: one of the ranges contains it."""

    def make(term: Term, _: datetime) -> Test:
        ranges = [_range(term.field, value) for value in term.values]

        def test(job: Job) -> bool:
            number = read(job)
            return number is not None and any(low <= number <= high for low, high in ranges)

        return test

    return make


def _of_time(read: Callable[[Job], datetime | None], *, within: bool) -> Callable[[Term, datetime], Test]:
    """A field with a time: at or after the given one (`within`), or before it."""

    def make(term: Term, now: datetime) -> Test:
        at = _time(term, now)

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


# What a store can decide


def _narrowed(
    wanted: Filter, numbers: tuple[int, int], term: Term, now: datetime
) -> tuple[Filter, tuple[int, int]]:
    """The filter and the range of numbers, narrowed by a term if a store can decide the term by an index.

    A field of `Filter` takes one value, and the first term has it. The tests decide all terms anyway.
    """
    if term.field == "number":
        ranges = [_range(term.field, value) for value in term.values]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        return wanted, (max(numbers[0], low), min(numbers[1], high))
    if term.field == "state":
        states = frozenset(state for state in STATES if state in term.values)
        return replace(wanted, states=wanted.states & states or states), numbers
    found = _stored(term, now)
    free = {name: value for name, value in found.items() if getattr(wanted, name) is None}
    return replace(wanted, **free), numbers


def _stored(term: Term, now: datetime) -> dict[str, Any]:
    """The field of `Filter` that a term sets, with its value."""
    if term.field == "since":
        return {"created_since": _time(term, now)}
    if term.field == "older":
        return {"ended_before": _time(term, now)}
    if len(term.values) > 1:
        return {}
    [value] = term.values
    if term.field == "id":
        return {"id_prefix": value.removesuffix("*")}
    if value.endswith("*"):
        return {}
    if term.field == "schedule":
        return {"id_prefix": f"{value}:"}  # the ids of its jobs begin with its name
    return {term.field: value} if term.field in ("queue", "tag", "batch") else {}


# Values


def _range(field: str, value: str) -> tuple[int, int]:
    """The smallest and the greatest number of a value such as `3`, `1-5`, `>2`, `<=0`."""
    low, high = -EVERY[1], EVERY[1]
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
_RANGE = re.compile(r"(?P<first>-?[0-9]{1,18})-(?P<last>[0-9]{1,18})")


def _time(term: Term, now: datetime) -> datetime:
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


def _nearest(word: str, known: Sequence[str]) -> str:
    """The hint for an unknown word: the nearest known one, or all of them."""
    import difflib  # imported only for an error: it takes 5 ms

    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
