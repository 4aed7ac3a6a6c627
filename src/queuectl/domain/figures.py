"""Figures: how many attempts and jobs ended, how long they waited and ran, counted per worker, queue and label.

A duration is counted in a bin. The bins grow by at most 10 %, so a percentile is known within 10 %. The bounds of the
histograms of `/metrics` are limits of bins, so these histograms are exact.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import ceil, log, sqrt
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field

from queuectl.domain.job import TERMINAL, Attempt, Job
from queuectl.domain.label import label_of

BOUNDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
"""Upper bounds of the histograms of `/metrics`, in seconds."""

OTHER = "other"
"""The label, and the queue, of what is counted together because there are too many."""

LABELS, QUEUES = 200, 1000
"""Groups of one worker in one minute: with more than `LABELS`, new groups have no label of their own, and with more
than `QUEUES` no queue of their own."""


def _limits() -> Iterator[float]:
    lower = 0.001
    yield lower
    for upper in (*BOUNDS, 30 * 86400):
        steps = ceil(log(upper / lower) / log(1.1))
        yield from (lower * (upper / lower) ** (step / steps) for step in range(1, steps))
        yield upper
        lower = upper


LIMITS: tuple[float, ...] = tuple(_limits())
"""The upper limit of each bin, in seconds. The last bin has none."""


class Durations(Struct, array_like=True, gc=False):
    """Durations in seconds: how many are in each bin, their sum, and the longest."""

    bins: dict[int, int] = field(default_factory=dict)
    total: float = 0.0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        n, bins = bisect_left(LIMITS, seconds), self.bins
        bins[n] = bins.get(n, 0) + 1
        self.total += seconds
        if seconds > self.longest:
            self.longest = seconds

    def merge(self, other: "Durations") -> None:
        """Add the durations of another value."""
        _sum(self.bins, other.bins)
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.bins.values())

    def percentile(self, share: float) -> float | None:
        """The duration that this share of all does not exceed, within 10 %. None if there are no durations."""
        wanted, seen = share * self.count, 0
        for n in sorted(self.bins):
            seen += self.bins[n]
            if seen >= wanted:
                return min(_middle(n), self.longest)
        return None

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound with the number of durations up to it."""
        bins, seen, rest = sorted(self.bins.items()), 0, 0
        for bound, place in _PLACES:
            while rest < len(bins) and bins[rest][0] <= place:
                seen += bins[rest][1]
                rest += 1
            yield bound, seen


_PLACES = [(bound, LIMITS.index(bound)) for bound in BOUNDS]


def _middle(n: int) -> float:
    """A value in a bin, at most 5 % from each other one."""
    if n == 0:
        return LIMITS[0]
    return sqrt(LIMITS[n - 1] * LIMITS[n]) if n < len(LIMITS) else float("inf")


class Tally(Struct, array_like=True, gc=False):
    """The figures of one group.

    outcomes  attempts by outcome
    ended     jobs that ended, by state
    failed    attempts that failed; a lost or cancelled one did not
    codes     failed attempts by exit code
    cpu       processor time in seconds
    wait      from the time at which an attempt was due to its start
    run       from the start of an attempt to its end
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    cpu: float = 0.0
    wait: Durations = field(default_factory=Durations)
    run: Durations = field(default_factory=Durations)

    def add(self, attempt: Attempt, after: Job, due: datetime | None) -> None:
        """Count one attempt that has ended, with its job. `due`: when the attempt was due, if that is known."""
        outcome, state, outcomes = attempt.outcome, after.state, self.outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if state in TERMINAL:
            ended = self.ended
            ended[state] = ended.get(state, 0) + 1
        if state in _FAILED and outcome != "lost":
            self.failed += 1
            if (code := attempt.exit_code) is not None:
                self.codes[code] = self.codes.get(code, 0) + 1
        if attempt.user_cpu is not None:
            self.cpu += attempt.user_cpu + (attempt.system_cpu or 0.0)
        if (started := attempt.started_at) is not None:
            if due is not None:
                self.wait.add((started - due).total_seconds() if due < started else 0.0)
            self.run.add((attempt.finished_at - started).total_seconds())

    def merge(self, other: "Tally") -> None:
        """Add the figures of another group."""
        _sum(self.outcomes, other.outcomes)
        _sum(self.ended, other.ended)
        _sum(self.codes, other.codes)
        self.failed += other.failed
        self.cpu += other.cpu
        self.wait.merge(other.wait)
        self.run.merge(other.run)

    @property
    def attempts(self) -> int:
        """The number of attempts that ended."""
        return sum(self.outcomes.values())


_FAILED = frozenset(("failed", "dead"))


def _sum(into: dict[Any, int], more: Mapping[Any, int]) -> None:
    for key, count in more.items():
        into[key] = into.get(key, 0) + count


class Group(NamedTuple):
    """What is counted together."""

    worker: str
    queue: str
    label: str


class _Row(Struct, array_like=True, frozen=True, gc=False):
    worker: str
    queue: str
    label: str
    tally: Tally


class Sheet:
    """The figures of some time, by group. The number of groups is bounded."""

    def __init__(self, labels: int = LABELS, queues: int = QUEUES) -> None:
        self._labels, self._queues = labels, queues
        self.rows: dict[Group, Tally] = {}

    def count(self, attempt: Attempt, after: Job, due: datetime | None) -> None:
        """Count one attempt that has ended, with its job."""
        group = (attempt.worker, after.queue, label_of(after.spec))
        tally = self.rows.get(group)  # type: ignore[call-overload]  # a tuple is found as quickly as it is made
        if tally is None:
            tally = self.tally(Group(*group))
        tally.add(attempt, after, due)

    def tally(self, group: Group) -> Tally:
        """The figures of a group; those of `other` if there are too many groups."""
        found = self.rows.get(group)
        if found is None and len(self.rows) >= self._labels:
            queue = OTHER if len(self.rows) >= self._queues else group.queue
            group = Group(group.worker, queue, OTHER)
            found = self.rows.get(group)
        if found is None:
            found = self.rows[group] = Tally()
        return found

    def merge(self, rows: Iterable[tuple[Group, Tally]]) -> None:
        """Add the figures of these groups."""
        for group, tally in rows:
            self.tally(group).merge(tally)

    def encode(self) -> dict[str, Any]:
        """The value of an entry with these figures.

        The rows are a text in it: a reader decodes those that it needs, and each only once.
        """
        rows = [(*group, tally) for group, tally in self.rows.items()]
        return {"rows": msgspec.json.encode(rows).decode()}


_ROWS = msgspec.json.Decoder(list[_Row])


def rows_of(value: Mapping[str, Any]) -> list[tuple[Group, Tally]]:
    """The groups of an entry. A damaged entry has none."""
    try:
        rows = _ROWS.decode(value.get("rows", ""))
    except (msgspec.DecodeError, TypeError):
        return []
    return [(Group(row.worker, row.queue, row.label), row.tally) for row in rows]


def biggest_first(rows: Sequence[tuple[Group, Tally]]) -> list[tuple[Group, Tally]]:
    """The groups in the order in which they get rows of their own."""
    return sorted(rows, key=lambda row: (-row[1].attempts, row[0]))


# The keys of entries

MINUTE, HOUR = len("2026-11-30T20:15"), len("2026-11-30T20")


def minute_of(at: datetime) -> str:
    """The name of the minute of a time in UTC."""
    return at.isoformat()[:MINUTE]


def hour_of(at: datetime) -> str:
    """The name of the hour of a time in UTC."""
    return at.isoformat()[:HOUR]
