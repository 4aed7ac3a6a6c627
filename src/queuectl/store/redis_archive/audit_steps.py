"""Compares what the queue knows of its archive with what the archive has, in both directions, a piece at a time."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from queuectl.store.redis.connect import Line
from queuectl.store.redis.repair import EVERYTHING, NOTHING, members_of
from queuectl.store.redis_archive.scripts import run

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "Copy",
    "Run",
    "Verdict",
    "begin",
    "compare",
    "known",
    "forget_missing",
    "raise_number",
]


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


class Run(Struct, frozen=True):
    """Who compares: a name that nobody else has, and whether what is found is put right."""

    name: str
    mends: bool

    @property
    def words(self) -> tuple[str, str]:
        """What scripts are told of it."""
        return self.name, str(int(self.mends))


def raise_number(line: Line, greatest: int | None) -> None:
    """No number is given again that the archive has; None if that is not known."""
    run(line, "raise_number", *(() if greatest is None else (greatest,)))


def begin(line: Line, audit: Run, reached: str, upto: str) -> bool:
    """A piece is to be read now. False if another one compares."""
    return bool(run(line, "audit_begin", *audit.words, reached, upto))


def compare(line: Line, audit: Run, reached: str, upto: str, copies: Sequence[Copy]) -> Verdict | None:
    """Compare the piece that was announced. None if another one has begun."""
    words = [word for c in copies for word in (f"{c.number:016}", c.id, str(c.version), c.state, c.queue)]
    answer = run(line, "audit_compare", *audit.words, reached, upto, *words)
    if answer is None:
        return None
    return Verdict(answer[0], [int(number) for number in answer[1]], *answer[2:])


def known(line: Line) -> Iterator[dict[str, int]]:
    """The ids that the archive is to have, with their versions, some hundreds at a time."""
    for ids in members_of(line, "past"):
        versions = line.call("ZMSCORE", line.key("past"), *ids)
        pairs = zip(ids, versions, strict=True)
        yield {id.decode(): int(float(version)) for id, version in pairs if version is not None}


def forget_missing(line: Line, audit: Run, missing: dict[str, int]) -> int:
    """The archive does not have these. Answers how many it ought to have."""
    words = [word for pair in missing.items() for word in pair]
    return int(run(line, "forget_missing", str(int(audit.mends)), *words)) if missing else 0
