"""Stores the figures of workers, merges old ones, and reads them.

The table `figures` has an entry for each minute and writer, the table `hours` one for each hour, and its entry `total`
has the sums per queue since the beginning. A writer is one agent of a worker: each entry has one writer, so it counts
once although writes are repeated. An hour is merged when it ended an hour ago:

    1. The entry of the hour gets the sum of the entries of its minutes.
    2. `total` gets the hour added, and its name as `upto`. This is the commit point.
    3. The entries of the minutes are deleted.

An entry of a minute counts if its hour is after `upto`, and the entry of an hour if it is not. So a process may die
between any two steps, and several may do them at once: the versions of `total` accept one. A reader reads the minutes
before `total`. If the hour is merged between, the reader ignores the minutes and finds the hour.

Both tables are read without a search: the minutes are at most two hours, and the names of hours are known.
`docs/decisions/0031-figures.md` has the alternatives.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from queuectl.domain.figures import (
    HOUR,
    MINUTE,
    OTHER,
    QUEUES,
    Group,
    Sheet,
    Tally,
    biggest_first,
    hour_of,
    minute_of,
    rows_of,
)
from queuectl.domain.job import Job
from queuectl.store.protocol import Entry, Store, Swap, Table

WRITE_EVERY = 10.0
"""Seconds between two writes of a worker. A killed worker loses the figures of this time."""

KEPT_AS_MINUTES = timedelta(hours=1)
"""An hour is merged this long after its end."""

LATE = timedelta(minutes=30)
"""Figures that a writer could not store for this time are counted in the minute in which they are stored: their hour
could be merged already."""

TOTAL = "total"
ROWS_OF_HOUR, QUEUES_OF_HOUR = 2000, 3000
"""Bounds of an hour's entry, as `LABELS` and `QUEUES` are those of a minute."""

AT_ONCE = 500
"""Entries in one call of the store."""

_HOUR = timedelta(hours=1)
_NONE = Entry({}, 0)


class _Sent(Struct):
    """A write that is not known to be stored yet: what it adds, and the entry as it will be."""

    minute: str
    added: Sheet
    whole: Sheet
    version: int


class Writer:
    """Counts what one agent settles, and stores it. For one thread.

    name  the name of the writer: no other agent has it
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._counted: dict[str, Sheet] = {}
        self._current, self._from, self._until = Sheet(), _NEVER, _NEVER
        self._sent: _Sent | None = None
        self._stored = _Sent("", Sheet(), Sheet(), 0)

    @property
    def is_waiting(self) -> bool:
        """Whether something is counted that is not stored."""
        return bool(self._counted) or self._sent is not None

    def count(self, before: Job | None, after: Job, now: datetime) -> None:
        """Count the last attempt of a job, which has just ended. `before` is the job before the end, with its lease."""
        if not self._from <= now < self._until:
            self._begin_minute(now)
        attempt = after.history[-1]
        held = before.lease if before is not None else None
        due = before.run_at if before and held and held.attempt_id == attempt.attempt_id else None
        self._current.count(attempt, after, due)

    def count_recovered(self, job: Job) -> None:
        """Count the lost attempt of a job that was just recovered. A claim that was given back has none."""
        if (
            job.history
            and job.history[-1].outcome == "lost"
            and job.history[-1].finished_at >= job.updated_at
        ):
            self.count(None, job, job.updated_at)

    def _begin_minute(self, now: datetime) -> None:
        self._from = now.replace(second=0, microsecond=0)
        self._until = self._from + timedelta(minutes=1)
        self._current = self._counted.setdefault(minute_of(now), Sheet())

    def write(self, store: Store) -> None:
        """Store what is counted. Raises StoreError or OutcomeUnknown; a repetition is safe."""
        for _ in range(len(self._counted) + 1):
            if self._sent is None and self._counted:
                self._sent = self._take(store.now())
            if self._sent is None:
                return
            sent, key = self._sent, f"{self._sent.minute}/{self._name}"
            if _swap(store, "figures", key, sent.whole.encode(), sent.version) or (
                key in store.read_table("figures", [key])  # stored before, by a write whose reply was lost
            ):
                self._stored = sent
            else:  # the entry was merged and deleted meanwhile
                self._counted.setdefault(minute_of(store.now()), Sheet()).merge(sent.added.rows.items())
            self._sent = None

    def _take(self, now: datetime) -> _Sent:
        """The figures of the oldest minute, as a write. What is counted from now on is not part of it."""
        minute = min(self._counted)
        added = self._counted.pop(minute)
        self._from = self._until = _NEVER
        if minute < minute_of(now - LATE):
            minute = minute_of(now)
        whole, version = Sheet(), 0
        if minute == self._stored.minute:
            whole.merge(self._stored.whole.rows.items())
            version = self._stored.version + 1
        whole.merge(added.rows.items())
        return _Sent(minute, added, whole, version)


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Totals(Struct, frozen=True):
    """The entry `total`.

    since   the first hour that has not been deleted; "" if no hour was merged yet
    upto    the last hour that was merged
    queues  the sums per queue, in the order in which the queues first had figures
    """

    since: str = ""
    upto: str = ""
    queues: list[tuple[str, Tally]] = []


def _swap(store: Store, table: Table, key: str, value: dict[str, Any], version: int) -> bool:
    return store.swap([Swap(table, key, value, version)])[0]


def _totals(store: Store) -> tuple[Totals, int]:
    """The entry `total` and its version. The sums of a damaged entry begin again."""
    entry = store.read_table("hours", [TOTAL]).get(TOTAL, _NONE)
    try:
        return msgspec.convert(entry.value, Totals, strict=False), entry.version
    except msgspec.ValidationError:
        return Totals(), entry.version


def merge(store: Store, retain: timedelta) -> None:
    """Merge the hours that ended long enough ago, and delete those that are older than `retain`."""
    now = store.now()
    minutes, latest = store.read_table("figures"), hour_of(now - KEPT_AS_MINUTES - _HOUR)
    totals, version = _totals(store)
    for hour in sorted({key[:HOUR] for key in minutes if key[:HOUR] <= latest}):
        part = {key: entry for key, entry in minutes.items() if key[:HOUR] == hour}
        if hour > totals.upto:
            changed = _merge_hour(store, hour, part, totals, version)
            if changed is None:
                return  # another worker does the same
            totals, version = changed, version + 1
        _remove(store, "figures", part)
    _trim(store, totals, version, hour_of(now - retain))


def _merge_hour(
    store: Store, hour: str, minutes: Mapping[str, Entry], totals: Totals, version: int
) -> Totals | None:
    """Steps 1 and 2. Returns the new sums; None if another process has changed them."""
    sheet = _sum(minutes.values())
    known = store.read_table("hours", [hour]).get(hour, _NONE)
    changed = Totals(totals.since or hour, hour, _with(totals.queues, minutes))
    made = _swap(store, "hours", hour, sheet.encode(), known.version)
    if made and _swap(store, "hours", TOTAL, _encoded(changed), version):
        return changed
    return None


def _encoded(totals: Totals) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(totals, str_keys=True)
    return value


def _sum(entries: Iterable[Entry]) -> Sheet:
    """The sum of these entries, in which the biggest groups have rows of their own."""
    all_groups = Sheet(1 << 30, 1 << 30)
    for entry in entries:
        all_groups.merge(rows_of(entry.value))
    sheet = Sheet(ROWS_OF_HOUR, QUEUES_OF_HOUR)
    sheet.merge(biggest_first(list(all_groups.rows.items())))
    return sheet


def _with(queues: list[tuple[str, Tally]], minutes: Mapping[str, Entry]) -> list[tuple[str, Tally]]:
    """The sums per queue with the figures of these minutes. New queues follow the known ones."""
    sums = dict(queues)
    for key in sorted(minutes):
        for group, tally in rows_of(minutes[key].value):
            known = group.queue in sums or len(sums) < QUEUES
            sums.setdefault(group.queue if known else OTHER, Tally()).merge(tally)
    return list(sums.items())


def _trim(store: Store, totals: Totals, version: int, oldest: str) -> None:
    """Delete the hours before `oldest`. The sums stay."""
    if not totals.since or totals.since >= oldest:
        return
    for keys in _batches(hours(totals.since, min(oldest, _next(totals.upto)))):
        _remove(store, "hours", store.read_table("hours", keys))
    _swap(store, "hours", TOTAL, _encoded(msgspec.structs.replace(totals, since=oldest)), version)


def _remove(store: Store, table: Table, entries: Mapping[str, Entry]) -> None:
    for keys in _batches(entries):
        store.swap([Swap(table, key, None, entries[key].version) for key in keys])


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    found = list(keys)
    return (found[start : start + AT_ONCE] for start in range(0, len(found), AT_ONCE))


def hours(first: str, end: str) -> Iterator[str]:
    """The names of the hours from the first to the one before the end."""
    while first < end:
        yield first
        first = _next(first)


def _next(hour: str) -> str:
    return hour_of(datetime.fromisoformat(f"{hour}:00") + _HOUR)


class Found(Struct, frozen=True):
    """The figures of a time. `since` and `until` are its limits after they were moved to those of minutes or hours.

    rows  the hour, the group and the figures
    """

    since: datetime
    until: datetime
    rows: list[tuple[str, Group, Tally]]


def read(store: Store, since: datetime, until: datetime) -> Found:
    """The figures from `since` to `until`. An hour that was merged is read whole, so the time may become longer."""
    minutes = store.read_table("figures")
    totals, _ = _totals(store)
    first, rows = minute_of(since), list[tuple[str, Group, Tally]]()
    for key, entry in minutes.items():
        if totals.upto < key[:HOUR] and first <= key[:MINUTE] and _start(key[:MINUTE]) < until:
            rows += [(key[:HOUR], *row) for row in rows_of(entry.value)]
    merged = list(hours(max(first[:HOUR], totals.since), _after(until, totals.upto))) if totals.upto else []
    for keys in _batches(merged):
        for hour, entry in store.read_table("hours", keys).items():
            rows += [(hour, *row) for row in rows_of(entry.value)]
    begins = _start(first) if not merged else min(_start(first), _start(f"{merged[0]}:00"))
    ends = until if not merged else max(until, _start(f"{merged[-1]}:00") + _HOUR)
    return Found(begins, ends, rows)


def _after(until: datetime, upto: str) -> str:
    """The hour after the last merged one that begins before `until`."""
    return _next(min(hour_of(until - timedelta.resolution), upto))


def _start(minute: str) -> datetime:
    return datetime.fromisoformat(f"{minute}:00+00:00")


def since_ever(store: Store) -> list[tuple[str, Tally]]:
    """The sums per queue since the beginning. They never fall, and the order of the queues does not change."""
    minutes = store.read_table("figures")
    totals, _ = _totals(store)
    return _with(totals.queues, {key: entry for key, entry in minutes.items() if key[:HOUR] > totals.upto})
