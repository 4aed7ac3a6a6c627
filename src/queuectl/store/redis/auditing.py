"""Compares what the queue knows of its archive with what the archive has, in both directions, a piece at a time."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from queuectl.store.redis.connections import Line
from queuectl.store.redis.repair import EVERYTHING, NOTHING, members_of

__all__ = ["EVERYTHING", "NOTHING", "Copy", "Verdict", "announce", "compare", "known", "lost", "number_after"]


class Copy(Struct, frozen=True):
    """What tells a copy in the archive from another."""

    number: int
    id: str
    version: int
    state: str
    queue: str


class Verdict(Struct, frozen=True):
    """How many copies of a piece were not known; the numbers of those that were deleted; how many sums were wrong."""

    unknown: int
    deleted: list[int]
    miscounted: int = 0


def number_after(line: Line, greatest: int) -> None:
    """No number is given again that the archive has."""
    line.run("number", greatest)


def announce(line: Line, reached: str, upto: str) -> bool:
    """A piece is to be read now. False if another one has begun to compare."""
    return bool(line.run("announce", reached, upto))


def compare(line: Line, act: str, reached: str, upto: str, copies: Sequence[Copy]) -> Verdict | None:
    """Compare the piece that was announced. None if another one has begun."""
    words = [word for c in copies for word in (f"{c.number:016}", c.id, str(c.version), c.state, c.queue)]
    answer = line.run("audit", act, reached, upto, *words)
    if answer is None:
        return None
    return Verdict(answer[0], [int(number) for number in answer[1]], *answer[2:])


def known(line: Line) -> Iterator[dict[str, int]]:
    """The ids that the archive is to have, with their versions, some hundreds at a time."""
    for ids in members_of(line, "past"):
        versions = line.call("ZMSCORE", line.key("past"), *ids)
        pairs = zip(ids, versions, strict=True)
        yield {id.decode(): int(float(version)) for id, version in pairs if version is not None}


def lost(line: Line, act: str, missing: dict[str, int]) -> int:
    """The archive does not have these. Answers how many it ought to have."""
    return int(line.run("lost", act, *[word for pair in missing.items() for word in pair])) if missing else 0
