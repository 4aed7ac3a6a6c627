"""Heals what does not fit: jobs that stand in the wrong indexes or in none, and entries of indexes without a job.

Scripts are atomic, and so is a script in the server's log: nothing of the kind is to be found as a rule. It may be
after a log was cut off by hand, or keys were.
"""

from collections import Counter
from collections.abc import Iterator

from msgspec.structs import replace

from queuectl.store.protocol import Description
from queuectl.store.redis.connections import Line

AT_ONCE = 500


def with_damage(line: Line, found: Description) -> Description:
    """With what a look at all jobs finds."""
    wrong = [f"{count} {what}" for what, count in heal(line, really=False).items() if count]
    return replace(found, faults=(*found.faults, *wrong))


def heal(line: Line, *, really: bool = True) -> Counter[str]:
    """Look at every job and at every entry of every index; how much of each kind was (or would be) mended."""
    mended: Counter[str] = Counter()
    act = "1" if really else "0"
    for numbers in _keys(line, "job"):
        mended["jobs that stood in the wrong place"] += line.run("mend_jobs", act, *numbers)
    for index in _indexes(line):
        mended["entries of indexes without a job"] += _mend(line, index, act, really=really)
    return mended


def _mend(line: Line, index: str, act: str, *, really: bool) -> int:
    """Along one index; what was taken out makes the rest move up."""
    passed = wrong = 0
    while True:
        looked, strange = map(int, line.run("mend_index", act, index, passed, AT_ONCE))
        wrong += strange
        passed += looked - (strange if really else 0)
        if looked < AT_ONCE:
            return wrong


def _indexes(line: Line) -> Iterator[str]:
    """The sorted sets whose members are numbers of jobs."""
    yield from ("created", "updated", "next", "delayed", "leased", "ended")
    for kind in ("state", "ready", "by"):
        for keys in _keys(line, kind):
            yield from (f"{kind}:{name}" for name in keys)


def _keys(line: Line, kind: str) -> Iterator[list[str]]:
    """What follows the kind in the names of keys, some hundreds at a time; one may come twice."""
    beginning, cursor = f"{line.tag}:{kind}:", None
    while cursor != b"0":
        cursor, keys = line.call("SCAN", cursor or b"0", "MATCH", f"{beginning}*", "COUNT", AT_ONCE)
        if keys:
            yield [key.decode().removeprefix(beginning) for key in keys]
