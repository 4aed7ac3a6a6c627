"""The queue's side of an archive: what has ended goes to a stream, from there to the archive, and only then away."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from msgspec import Struct
from redis.exceptions import ResponseError

from queuectl.domain.job import Job
from queuectl.store.redis import rows
from queuectl.store.redis.connections import Line
from queuectl.store.redis.writing import AT_ONCE, Swapped

GROUP = "movers"
ABANDONED_MS = 30_000
"""After so long another mover takes over what one has read."""


class Departure(Struct, frozen=True):
    """An entry of the stream: this job ended with this version."""

    entry: str
    number: str
    version: int


def begin(line: Line) -> None:
    """From now on what ends goes to the stream."""
    line.call("SET", line.key("archiving"), "1")
    with suppress(ResponseError):  # the group is there already
        line.call("XGROUP", "CREATE", line.key("stream"), GROUP, "0", "MKSTREAM")


def readmit(line: Line) -> None:
    """Into the stream what has ended and is not in it."""
    passed = 0
    if line.call("ZCARD", line.key("ended")) > waiting(line):
        while entered := line.run("readmit", passed, AT_ONCE):
            passed += entered


def departures(line: Line, mover: str, limit: int, *, wait_ms: int) -> list[Departure]:
    """What is to be moved: first what this mover has begun, then what others have abandoned, then what is new."""
    mine = _read(line, mover, limit, "0")
    if mine:
        return mine
    claimed = line.call("XAUTOCLAIM", line.key("stream"), GROUP, mover, ABANDONED_MS, "0", "COUNT", limit)
    return _entries(claimed[1]) or _read(line, mover, limit, ">", wait_ms)


def _read(line: Line, mover: str, limit: int, after: str, wait_ms: int | None = None) -> list[Departure]:
    block = () if not wait_ms else ("BLOCK", wait_ms)
    words = ("GROUP", GROUP, mover, "COUNT", limit, *block, "STREAMS", line.key("stream"), after)
    found = line.call("XREADGROUP", *words)
    return _entries(found[0][1]) if found else []


def _entries(found: Iterable[tuple[bytes, list[bytes] | None]]) -> list[Departure]:
    """The entries; of one that was deleted meanwhile only the id is left."""
    return [
        Departure(entry.decode(), fields[1].decode(), int(fields[3])) for entry, fields in found if fields
    ]


def archived(line: Line, now: str, moved: Sequence[Departure]) -> list[Departure]:
    """The archive has them: they leave. Answers those that have changed since."""
    words = [word for each in moved for word in (each.entry, each.number, each.version)]
    changed = {entry.decode() for entry in line.run("archived", now, *words)}
    return [each for each in moved if each.entry in changed]


def struck(line: Line, changed: Sequence[Departure]) -> None:
    """The archive has let its copies of these go."""
    line.run("struck", *[word for each in changed for word in (each.entry, each.number)])


def arrive(line: Line, now: str, was: Job, job: Job) -> Swapped:
    """A job of the archive comes back changed."""
    answer = line.run("arrive", now, f"{was.number:016}", was.state, was.queue, rows.returned(job))
    return answer.decode()  # type: ignore[no-any-return]


def arrived(line: Line, now: str, number: int, *, keep: bool) -> None:
    """The archive has let it go, or had another one."""
    line.run("arrived", now, f"{number:016}", "keep" if keep else "drop")


def arriving(line: Line) -> dict[int, int]:
    """Numbers of jobs that came back and that the archive may still have, with the version they have here."""
    flat = line.call("HGETALL", line.key("arriving"))
    return {int(number): rows.version(note) for number, note in zip(flat[::2], flat[1::2], strict=True)}


def leave(line: Line, jobs: Sequence[Job]) -> list[int]:
    """Jobs of the archive are to be deleted. Answers the numbers of those that may be."""
    words = [word for job in jobs for word in (f"{job.number:016}", job.id, job.state, job.queue)]
    return [int(number) for number in line.run("leave", *words)]


def confirm(line: Line, numbers: Sequence[int], there: Collection[int]) -> None:
    """Of the jobs that were noted, the archive still has these."""
    words = [word for number in numbers for word in (str(int(number in there)), f"{number:016}")]
    line.run("confirm", *words)


def left(line: Line, numbers: Sequence[int]) -> None:
    """They are gone from the archive."""
    line.run("left", *[f"{number:016}" for number in numbers])


def leaving(line: Line) -> dict[int, bool]:
    """Numbers of jobs whose deletion was begun, and whether it is certain."""
    flat = line.call("HGETALL", line.key("leaving"))
    return {int(number): rows.is_sure(note) for number, note in zip(flat[::2], flat[1::2], strict=True)}


def purged(line: Line) -> set[int]:
    """Numbers of jobs that were deleted while they were moved: of these the archive may still have a copy."""
    return {int(number) for number in line.call("HKEYS", line.key("purged"))}


def waiting(line: Line) -> int:
    """How many jobs have ended and are not in the archive yet."""
    return int(line.call("XLEN", line.key("stream")))
