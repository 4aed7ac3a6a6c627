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
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.job import STATES, Job
from queuectl.domain.query import Filter, matches
from queuectl.domain.where_fields import FIELDS, GREATEST, Term, Test, nearest, range_of, test_of, time_of
from queuectl.errors import InvalidInput

LONGEST = 10_000
"""Maximum number of characters of a filter."""


class Where(Struct, frozen=True):
    """A filter that was checked.

    text     the filter as it was written
    filter   all jobs that match are among the jobs that match this; a store decides it by an index
    numbers  the smallest and the greatest number that can match
    exact    `filter` alone decides whether a job matches
    limit    at most so many of the jobs are changed, those with the smallest numbers (None: all)
    """

    text: str
    filter: Filter
    tests: tuple[Test, ...]
    numbers: tuple[int, int]
    exact: bool = False
    limit: int | None = None

    def matches(self, job: Job) -> bool:
        """Whether the job matches every term."""
        return all(test(job) for test in self.tests)

    @property
    def looks_at_all(self) -> bool:
        """Whether every job of the store has to be read, because no term is decided by an index."""
        return self.filter == Filter() and self.numbers == EVERY

    def within(self, given: Filter) -> "Where":
        """The jobs that match this filter and a filter of a store."""
        free, exact = dict[str, Any](), self.exact
        for name in Filter.__struct_fields__:
            value, own = getattr(given, name), getattr(self.filter, name)
            if not value or value == own:
                continue
            if name == "states" and own:
                exact = exact and not own.isdisjoint(value)
                value = (own & value) or value
            elif own:
                exact = False
                continue
            free[name] = value
        tests = (*self.tests, lambda job: matches(job, given))
        return replace(self, filter=replace(self.filter, **free), tests=tests, exact=exact)


EVERY = (0, GREATEST)
"""The range of all numbers."""
EVERY_JOB = "number:>0"
"""The filter that every job matches."""


def parse(text: str, now: datetime) -> Where:
    """The filter in a text. `now` is the time of the store's clock, from which ages are counted.

    Raises InvalidInput for an empty text, an unknown field or value (with the nearest known one), and a missing quote.
    """
    refuse_empty(text)
    if len(text) > LONGEST:
        raise InvalidInput(f"the filter has more than {LONGEST} characters")
    wanted, tests, numbers, exact = Filter(), list[Test](), EVERY, True
    for term in terms(text):
        tests.append(test_of(term, now))
        decided = False
        if not term.opposite:
            wanted, numbers, decided = _narrowed(wanted, numbers, term, now)
        exact = exact and decided
    return Where(text, wanted, tuple(tests), numbers, exact)


def refuse_empty(text: str) -> None:
    """Raise InvalidInput for a filter without terms."""
    if not text.strip():
        raise InvalidInput(
            "the filter is empty", f"for example: state:dead queue:mail; every job: {EVERY_JOB}"
        )


def term(field: str, *values: str) -> str:
    """The text of a term with these values, in quotes where they need them."""
    return f"{field}:{','.join(map(_quoted, values))}"


def _quoted(value: str) -> str:
    if value and not re.search(r'[\s,"\\]', value):
        return value
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{escaped}"'


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
            f"a filter has no field {term.field!r}", nearest(term.field, [*FIELDS, "meta.NAME"])
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


# What a store can decide


def _narrowed(
    wanted: Filter, numbers: tuple[int, int], term: Term, now: datetime
) -> tuple[Filter, tuple[int, int], bool]:
    """The filter and the range of numbers, narrowed by a term if a store can decide the term by an index.

    The third value tells whether they decide the term completely. A field of `Filter` takes one value, and the first
    term has it. The tests decide all terms anyway.
    """
    if term.field == "number":
        ranges = [range_of(term.field, value) for value in term.values]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        return wanted, (max(numbers[0], low), min(numbers[1], high)), ranges == [(1, EVERY[1])]
    if term.field == "state":
        states = frozenset(state for state in STATES if state in term.values)
        common = wanted.states & states
        return replace(wanted, states=common or states), numbers, bool(common or not wanted.states)
    found = _stored(term, now)
    free = {name: value for name, value in found.items() if getattr(wanted, name) is None}
    return replace(wanted, **free), numbers, bool(free) and not _is_wider(term)


def _is_wider(term: Term) -> bool:
    """Whether more jobs match the field of `Filter` than match the term."""
    return term.field == "schedule" or (term.field == "id" and not term.values[0].endswith("*"))


def _stored(term: Term, now: datetime) -> dict[str, Any]:
    """The field of `Filter` that a term sets, with its value."""
    if term.field == "since":
        return {"created_since": time_of(term, now)}
    if term.field == "older":
        return {"ended_before": time_of(term, now)}
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
