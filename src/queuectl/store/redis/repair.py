"""Heals what does not fit: jobs that stand in the wrong indexes or in none, and entries of indexes without a job.

Scripts are atomic, and so is a script in the server's log: nothing of the kind is to be found as a rule. It may be
after a log was cut off by hand, or keys were. Everything that is kept for a job is compared in both directions, some
hundreds of entries in one script, while everybody else goes on.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from queuectl.store.redis.connections import Line

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


def heal(
    line: Line, now: str, *, really: bool = True, goes_on: Callable[[], bool] = lambda: True
) -> Counter[str]:
    """Look at every job and at every entry of every index; how much of each kind was (or would be) mended.

    `now` is the time for scripts. `goes_on` is asked after each piece, and may take its time.
    """
    found: Counter[str] = Counter()
    act = "1" if really else "0"
    for part in (_jobs, _entries):  # what jobs say comes first: from it follows what the rest has to be
        for kind, names in _keys(line):
            part(line, (act, now), kind, names, found)
            if not goes_on():
                return +found
    found[MISCOUNTED] += recount(line, act)
    return +found


def _jobs(line: Line, how: tuple[str, str], kind: str, names: list[str], found: Counter[str]) -> None:
    numbers = [name.removeprefix("job:") for name in names] if kind == "job" else []
    for start in range(0, len(numbers), JOBS_AT_ONCE):
        wrong, unreadable = line.run("mend_jobs", *how, *numbers[start : start + JOBS_AT_ONCE])
        found[MISPLACED] += wrong
        found[UNREADABLE] += unreadable


def _entries(line: Line, how: tuple[str, str], kind: str, names: list[str], found: Counter[str]) -> None:
    for index in names if kind in INDEXES else ():
        found[STRAY] += _stray(line, how[0], index)


def _stray(line: Line, act: str, index: str) -> int:
    if index.startswith("output:"):  # all of it is one attempt's
        chunks = line.call("ZRANGE", line.key(index), 0, 0)
        return int(line.run("mend_entries", act, index, *chunks))
    return sum(int(line.run("mend_entries", act, index, *members)) for members in members_of(line, index))


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


def recount(line: Line, act: str) -> int:
    """Count all jobs anew; how many sums were wrong."""
    reached: bytes | str = NOTHING
    while answer := line.run("recount", act, reached, AT_ONCE):
        reached = answer[0]
        if not reached:
            return int(answer[1])
    return 0  # another one has begun to count


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
