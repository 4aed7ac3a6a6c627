"""Statistics: the figures of a time, in groups, with percentiles."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, get_args

from msgspec import Struct

from queuectl.domain.figures import Group, Tally
from queuectl.domain.instant import format_instant
from queuectl.errors import InvalidInput
from queuectl.service import figures
from queuectl.store.protocol import Store

By = Literal["queue", "label", "worker", "hour"]
BY: tuple[By, ...] = get_args(By)

DEFAULT_SINCE = timedelta(hours=1)

WRITTEN_WITHIN = timedelta(seconds=figures.WRITE_EVERY + 2)
"""A worker has stored what it counted after this time."""


class Question(Struct, frozen=True, kw_only=True):
    """What is asked: the time, the kind of group, and whether only one queue or label counts.

    since, until  None: the last hour before `until`; now
    """

    since: datetime | None = None
    until: datetime | None = None
    by: By = "queue"
    queue: str | None = None
    label: str | None = None


class Waits(Struct, frozen=True):
    """Percentiles of the time from due to start, in seconds. None: nothing was counted."""

    p50: float | None
    p95: float | None


class Runs(Struct, frozen=True):
    """Percentiles of the run time, in seconds, and the longest."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class StatsRow(Struct, frozen=True, kw_only=True):
    """The statistics of one group.

    ended       jobs that ended: completed, dead or cancelled
    failed      attempts that failed
    per_minute  jobs that ended, per minute
    cpu         processor time of the commands in seconds
    exit_codes  failed attempts by exit code
    """

    key: str
    ended: int
    completed: int
    failed: int
    dead: int
    per_minute: float
    wait: Waits
    run: Runs
    cpu: float
    exit_codes: dict[str, int]


class Stats(Struct, frozen=True, kw_only=True):
    """Statistics of the time from `since` to `until`. They contain all that ended before `complete_until`."""

    since: datetime
    until: datetime
    complete_until: datetime
    rows: tuple[StatsRow, ...]


def check_by(text: str) -> By:
    """Return the word if rows can be grouped by it. Raises InvalidInput."""
    for each in BY:
        if text == each:
            return each
    raise InvalidInput(f"by: {text!r} is not one of {', '.join(BY)}")


def stats(store: Store, asked: Question) -> Stats:
    """The statistics of the time, in groups. The group with most attempts is first; hours are in their order."""
    now, by = store.now(), asked.by
    until = now if asked.until is None else min(asked.until, now)
    since = until - DEFAULT_SINCE if asked.since is None else asked.since
    if since >= until:
        raise InvalidInput(
            f"{format_instant(since)} is not before {format_instant(until)}",
            "for example: queuectl stats --since 1h",
        )
    found = figures.read(store, since, until)
    groups: dict[str, Tally] = {}
    for hour, group, tally in found.rows:
        if asked.queue in (None, group.queue) and asked.label in (None, group.label):
            groups.setdefault(_KEYS[by](hour, group), Tally()).merge(tally)
    until = min(now, found.until)
    minutes = max((until - found.since) / timedelta(minutes=1), 1 / 60)
    order = sorted(groups.items(), key=lambda item: item[0] if by == "hour" else (-item[1].attempts, item[0]))
    return Stats(
        since=found.since,
        until=until,
        complete_until=min(until, now - WRITTEN_WITHIN),
        rows=tuple(_row(key, tally, minutes) for key, tally in order),
    )


_KEYS: dict[By, Callable[[str, Group], str]] = {
    "queue": lambda _, group: group.queue,
    "label": lambda _, group: group.label,
    "worker": lambda _, group: group.worker,
    "hour": lambda hour, _: f"{hour}:00:00Z",
}


def _row(key: str, tally: Tally, minutes: float) -> StatsRow:
    ended, wait, run = tally.ended, tally.wait.percentile, tally.run.percentile
    count = sum(ended.values())
    return StatsRow(
        key=key,
        ended=count,
        completed=ended.get("completed", 0),
        failed=tally.failed,
        dead=ended.get("dead", 0),
        per_minute=round(count / minutes, 3),
        wait=Waits(_rounded(wait(0.5)), _rounded(wait(0.95))),
        run=Runs(
            _rounded(run(0.5)),
            _rounded(run(0.95)),
            _rounded(run(0.99)),
            _rounded(tally.run.longest if tally.run.bins else None),
        ),
        cpu=round(tally.cpu, 3),
        exit_codes={str(code): count for code, count in sorted(tally.codes.items())},
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
