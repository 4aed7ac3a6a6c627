"""Heals what does not fit: jobs that stand in the wrong indexes or in none, and entries of indexes without a job.

Scripts are atomic, and so is a script in the server's log: nothing of the kind is to be found as a rule. It may be
after a log was cut off by hand, or keys were. Everything that is kept for a job is compared in both directions, some
hundreds of entries in one script, while everybody else goes on.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from msgspec import Struct

from queuectl.clock import random_bytes
from queuectl.store.redis.connect import Line

AT_ONCE, JOBS_AT_ONCE = 500, 100
MISPLACED, STRAY, UNREADABLE = "jobs in the wrong place", "entries without a job", "unreadable jobs"
MISCOUNTED = "wrong sums"
NOTHING, EVERYTHING = "0" * 16, "9" * 16
"""A number before all others, and one behind them."""

INDEXES = frozenset(
    (
        "created", "updated", "next", "delayed", "leased", "names", "ids", "keys", "lines", "heads", "arriving",
        "ended", "state", "ready", "by", "waits", "outputs", "output",
    )
)  # fmt: skip
"""The kinds of keys that follow from what jobs say."""
_SCAN = {b"zset": "ZSCAN", b"hash": "HSCAN", b"set": "SSCAN"}


class Healed(Struct, frozen=True):
    """How much of each kind was (or would be) mended, and whether everything was looked at."""

    found: Counter[str]
    complete: bool


def heal(line: Line, now: str, *, really: bool = True, goes_on: Callable[[], bool] = lambda: True) -> Healed:
    """Look at every job and at every entry of every index.

    `now` is the time for scripts. `goes_on` is asked after each script, and may take its time.
    """
    look = _Look(line, now, really=really, goes_on=goes_on)
    complete = all(step() for step in (look.jobs, look.entries, look.sums))
    return Healed(+look.found, complete)


class _Look:
    """One look. Its steps answer whether they came to their end."""

    def __init__(self, line: Line, now: str, *, really: bool, goes_on: Callable[[], bool]) -> None:
        self._line, self._now, self._act, self._goes_on = line, now, str(int(really)), goes_on
        self.found: Counter[str] = Counter()

    def jobs(self) -> bool:
        """What jobs say comes first: from it follows what the rest has to be."""
        return all(self._mend_jobs(names) for kind, names in _keys(self._line) if kind == "job")

    def entries(self) -> bool:
        """What stands in the indexes."""
        indexes = (name for kind, names in _keys(self._line) if kind in INDEXES for name in names)
        return all(self._mend_entries(index) for index in indexes)

    def sums(self) -> bool:
        """Count all jobs anew."""
        run, reached = random_bytes(8).hex(), NOTHING
        while answer := self._line.run("recount", run, self._act, reached, AT_ONCE):
            reached = answer[0].decode()
            if not reached:
                self.found[MISCOUNTED] += answer[1]
                return True
            if not self._goes_on():
                break
        return False  # or another one has begun to count

    def _mend_jobs(self, names: list[str]) -> bool:
        numbers = [name.removeprefix("job:") for name in names]
        for start in range(0, len(numbers), JOBS_AT_ONCE):
            batch = numbers[start : start + JOBS_AT_ONCE]
            wrong, unreadable = self._line.run("mend_jobs", self._act, self._now, *batch)
            self.found[MISPLACED] += wrong
            self.found[UNREADABLE] += unreadable
            if not self._goes_on():
                return False
        return True

    def _mend_entries(self, index: str) -> bool:
        for members in _members(self._line, index):
            self.found[STRAY] += self._line.run("mend_entries", self._act, index, *members)
            if not self._goes_on():
                return False
        return True


def _members(line: Line, index: str) -> Iterator[list[bytes]]:
    if index.startswith("output:"):  # all of it is one attempt's
        return iter([line.call("ZRANGE", line.key(index), 0, 0)])
    return members_of(line, index)


def members_of(line: Line, index: str) -> Iterator[list[bytes]]:
    """The members of a set, or the names in a hash, some hundreds at a time; one may come twice."""
    key = line.key(index)
    kind = line.call("TYPE", key)
    cursor = None
    while kind in _SCAN and cursor != b"0":
        cursor, flat = line.call(_SCAN[kind], key, cursor or b"0", "COUNT", AT_ONCE)
        members = flat if kind == b"set" else flat[::2]
        for start in range(0, len(members), AT_ONCE):
            yield members[start : start + AT_ONCE]


def _keys(line: Line) -> Iterator[tuple[str, list[str]]]:
    """The keys of the queue, some hundreds at a time, by kind and without the tag; one may come twice."""
    beginning, cursor = f"{line.tag}:", None
    while cursor != b"0":
        cursor, keys = line.call("SCAN", cursor or b"0", "MATCH", f"{beginning}*", "COUNT", AT_ONCE)
        names: dict[str, list[str]] = {}
        for key in keys:
            name = key.decode(errors="replace").removeprefix(beginning)
            names.setdefault(name.partition(":")[0], []).append(name)
        yield from names.items()
