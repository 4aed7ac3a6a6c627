"""The queue's side of an archive: what has ended goes to a stream, from there to the archive, and only then away.

A queue knows by its ids what the archive has (`past`). A copy of anything else that the archive may hold, of a job that
is being moved, or was deleted meanwhile, is no job.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from redis.exceptions import ResponseError

from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.store.driver import codec
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.redis import rows
from queuectl.store.redis.connect import Line
from queuectl.store.redis_archive.audit_steps import Copy
from queuectl.store.redis_archive.scripts import run

GROUP = "movers"
ABANDONED_MS = 30_000
"""After so long another mover takes over what one has read."""
FORGOTTEN_MS = 3_600_000
"""A mover that has nothing in hand and asked for nothing for so long is none any more."""
STRIDE = 500


class Departure(Struct, frozen=True):
    """An entry of the stream: this job ended with this version."""

    entry: str
    number: int
    version: int
    id: str


class Moved(Struct, frozen=True):
    """Departures that have to be taken back: the job lives again, or was deleted, while the archive got its copy."""

    changed: list[Departure]
    deleted: list[Departure]


class Arrival(Struct, frozen=True):
    """A job that came back, and of which the archive may still have the copy below this version."""

    number: int
    id: str
    version: int
    note: str


class Binding(Struct, frozen=True):
    """The queue's name for its archive; mark and URL of the archive that it is bound to, if there is one yet."""

    queue: str
    mark: str | None
    shown: str | None


def binding(line: Line) -> Binding:
    """What the queue is bound to."""
    return _binding(run(line, "bind"))


def bind(line: Line, mark: str, shown: str) -> Binding:
    """From now on the archive with this mark is there: if the queue had none, or had this one."""
    return _binding(run(line, "bind", mark, shown))


def _binding(answer: list[bytes | None]) -> Binding:
    queue, mark, shown = (None if part is None else part.decode() for part in answer)
    return Binding(queue or "", mark, shown)


def has_unfinished(line: Line) -> bool:
    """Whether a job is on its way back, or deleted and still in the archive: whoever began may have died."""
    return bool(line.call("HLEN", line.key("arriving")) or line.call("HLEN", line.key("leaving")))


def departures(line: Line, mover: str, limit: int, *, wait_ms: int) -> list[Departure]:
    """What is to be moved: first what this mover has begun, then what others have abandoned, then what is new."""
    try:
        mine = _read(line, mover, limit, "0")
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        begin_group(line)
        mine = []
    if mine:
        return mine
    claimed = line.call("XAUTOCLAIM", line.key("stream"), GROUP, mover, ABANDONED_MS, "0", "COUNT", limit)
    return _entries(claimed[1]) or _read(line, mover, limit, ">", wait_ms)


def _read(line: Line, mover: str, limit: int, after: str, wait_ms: int | None = None) -> list[Departure]:
    block = () if not wait_ms else ("BLOCK", wait_ms)
    words = ("GROUP", GROUP, mover, "COUNT", limit, *block, "STREAMS", line.key("stream"), after)
    found = line.call("XREADGROUP", *words)
    return _entries(found[0][1]) if found else []


def _entries(found: Iterable[tuple[bytes, list[bytes]] | None]) -> list[Departure]:
    """The entries; of one that was deleted meanwhile there is nothing left, or only its id."""
    return [_departure(*each) for each in found if each is not None and each[1]]


def _departure(entry: bytes, flat: list[bytes]) -> Departure:
    """One that a hand has entered is about no job, and goes the way of all that are not."""
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    number, version = (fields.get(name, b"") for name in (b"number", b"version"))
    if not number.isdigit() or not version.isdigit():
        return Departure(entry.decode(), 0, 0, "")
    return Departure(entry.decode(), int(number), int(version), fields.get(b"id", b"").decode())


def archive_done(line: Line, moved: Sequence[Departure]) -> Moved:
    """The archive has them: they leave. Answers those that it must not keep."""
    words = [word for d in moved for word in (d.entry, f"{d.number:016}", d.version, d.id)]
    changed, deleted = (
        {entry.decode() for entry in entries} for entries in run(line, "archive_done", *words)
    )
    return Moved(
        [each for each in moved if each.entry in changed], [each for each in moved if each.entry in deleted]
    )


def drop_entries(line: Line, departures: Sequence[Departure]) -> None:
    """These are done with."""
    run(line, "drop_entries", *[each.entry for each in departures])


def keep_live(line: Line, departures: Sequence[Departure]) -> None:
    """The archive cannot take these: they are not offered to it again."""
    run(
        line,
        "keep_live",
        *[word for d in departures for word in (d.entry, f"{d.number:016}", str(d.version))],
    )


def locate(line: Line, ids: Sequence[str]) -> dict[str, Job | Unreadable | None]:
    """What is here of the jobs with these ids, and None for each that the archive has."""
    found: dict[str, Job | Unreadable | None] = {}
    for start in range(0, len(ids), STRIDE):
        batch = ids[start : start + STRIDE]
        for id, answer in zip(batch, run(line, "locate", *batch), strict=True):
            if answer == b"past":
                found[id] = None
            elif answer is not None:
                jobs, damaged = codec.sift([answer], rows.job)
                found[id] = jobs[0] if jobs else damaged[0]
    return found


def restore(line: Line, now: str, jobs: Sequence[tuple[Job, Job]]) -> list[tuple[SaveResult, Arrival | None]]:
    """Jobs of the archive come back changed; of each as it was, and as it is to be."""
    answers = list[tuple[SaveResult, Arrival | None]]()
    for start in range(0, len(jobs), STRIDE):
        batch = jobs[start : start + STRIDE]
        words = [word for was, job in batch for word in _words(was, job)]
        said = run(line, "restore", now, *words)
        answers += [_arrived(was, *answer) for (was, _), answer in zip(batch, said, strict=True)]
    return answers


def _words(was: Job, job: Job) -> tuple[str | bytes, ...]:
    return (f"{was.number:016}", str(was.version), was.state, was.queue, rows.new(job))


def _arrived(was: Job, answer: bytes, version: bytes = b"") -> tuple[SaveResult, Arrival | None]:
    if answer != b"accepted":
        return "duplicate" if answer == b"taken" else "stale", None
    return int(version), _arrival(was.number, f"{version.decode()} {was.id}")


def restore_count(line: Line) -> int:
    """How many jobs have come back so far: who asked both sides meanwhile may have seen such a one in neither."""
    return int(line.call("GET", line.key("arrivals")) or 0)


def restoring(line: Line) -> list[Arrival]:
    """What came back and may still be in the archive."""
    flat = line.call("HGETALL", line.key("arriving"))
    return [_arrival(int(n), note.decode()) for n, note in zip(flat[::2], flat[1::2], strict=True)]


def _arrival(number: int, note: str) -> Arrival:
    version, _, id = note.partition(" ")
    return Arrival(number, id, int(version), note)


def restore_done(line: Line, now: str, jobs: Sequence[Arrival]) -> None:
    """The archive has let them go."""
    run(line, "restore_done", now, *[word for job in jobs for word in (f"{job.number:016}", job.note)])


def delete_archived(line: Line, jobs: Sequence[Job] | Sequence[Copy], now: str) -> set[int]:
    """Delete jobs of the archive. Answers the numbers of those that were deleted; the archive is to be told."""
    words = [word for j in jobs for word in (f"{j.number:016}", j.id, str(j.version), j.state, j.queue)]
    return {int(number) for number in run(line, "delete_archived", now, *words)} if words else set()


def deleting(line: Line) -> dict[int, str]:
    """Numbers and ids of jobs that were deleted, and of which the archive may still have something."""
    flat = line.call("HGETALL", line.key("leaving"))
    return {int(number): id.decode() for number, id in zip(flat[::2], flat[1::2], strict=True)}


def delete_done(line: Line, numbers: Iterable[int], now: str) -> None:
    """The archive has nothing more of these."""
    run(line, "delete_done", now, *[f"{number:016}" for number in numbers])


def waiting(line: Line) -> int:
    """How many jobs have ended and are not in the archive yet."""
    return int(line.call("XLEN", line.key("stream")))


def forget_archivers(line: Line) -> None:
    """Forget the movers of workers that are gone and had nothing in hand."""
    for mover in line.call("XINFO", "CONSUMERS", line.key("stream"), GROUP):
        known = dict(zip(mover[::2], mover[1::2], strict=True))
        if known[b"pending"] == 0 and known[b"idle"] > FORGOTTEN_MS:
            line.call("XGROUP", "DELCONSUMER", line.key("stream"), GROUP, known[b"name"])


def attempt_runs(line: Line, attempt_id: str) -> bool:
    """Whether an attempt runs now."""
    return bool(run(line, "attempt_runs", attempt_id))


def begin_group(line: Line) -> None:
    """Where the stream has lost its readers' group, all of it is read anew: twice is no harm."""
    try:
        line.call("XGROUP", "CREATE", line.key("stream"), GROUP, "0", "MKSTREAM")
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
