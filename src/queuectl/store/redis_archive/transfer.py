"""The access of the archive to the queue: one method for each script, and for each query about moving jobs.

`lifecycle.py` describes the effect of each script on a job, and the meaning of each key.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from redis.exceptions import ResponseError

from queuectl.domain.event import Actor, Event
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Unreadable
from queuectl.store.driver import codec
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.protocol import Added
from queuectl.store.redis import find, output, purge, rows, write
from queuectl.store.redis.connect import Line, RedisSession, Word
from queuectl.store.redis_archive.scripts import run

GROUP = "movers"
ABANDONED_MS = 30_000
"""After this time another archiver takes over entries that an archiver has read and not removed."""
FORGOTTEN_MS = 3_600_000
"""An archiver without entries that has read nothing for this long counts as one of a worker that has exited."""
STRIDE = 500


class StreamEntry(Struct, frozen=True):
    """An entry of the stream: this job ended with this version."""

    entry: str
    number: int
    version: int
    id: str


class Restored(Struct, frozen=True):
    """A job that was restored. The archive may still have a copy below this version."""

    number: int
    id: str
    version: int

    @property
    def note(self) -> str:
        """The value in `arriving`."""
        return f"{self.version} {self.id}"


class Copy(Struct, frozen=True):
    """The key of a copy in the archive."""

    number: int
    id: str
    version: int
    state: str
    queue: str


class Binding(Struct, frozen=True):
    """The name of the queue, and the mark and the URL of its archive, if it is already bound to one."""

    queue: str
    mark: str | None
    shown: str | None


class Transfer:
    """Runs the scripts of the queue. `now`: the time for the scripts; an empty text means the server's clock."""

    def __init__(self, session: RedisSession, now: Callable[[], str]) -> None:
        self.session, self.now = session, now

    def _run(self, name: str, *words: Word) -> Any:
        return self.session.write(run, name, *words)

    def _ask(self, name: str, *words: Word) -> Any:
        return self.session.read(run, name, *words)

    def _call(self, verb: str, key: str, *words: Word) -> Any:
        """Run a command that reads one of the queue's keys, and return the reply."""
        return self.session.read(_call, verb, key, *words)

    # Verbs whose results include archived jobs

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None]) -> list[Added | None]:
        """Insert new jobs. The result is None for an archived id. Raises NumberFloorUnknown."""
        return self.session.write(write.try_add, jobs, self.now(), events)

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None]) -> list[write.Swapped]:
        """Save jobs by compare-and-swap. The result is "past" for an archived job."""
        return self.session.write(write.try_save, jobs, self.now(), events)

    def oldest(self, wanted: Filter, limit: int) -> list[Job]:
        """The matching jobs in Redis that ended longest ago."""
        return self.session.read(purge.oldest, wanted, limit)

    def delete_live(self, jobs: Sequence[Job], tell: Actor | None) -> set[int]:
        """Delete ended jobs in Redis that have not changed since they were read.

        Returns the numbers of the deleted jobs.
        """
        return self.session.write(purge.delete, jobs, self.now(), tell) if jobs else set()

    # live → copying → archived

    def read_entries(self, archiver: str, limit: int, *, wait_ms: int) -> list[StreamEntry]:
        """The next entries to archive: first those that this archiver has begun, then abandoned ones, then new ones."""
        return self.session.write(_read_entries, archiver, limit, wait_ms)

    def ended_jobs(self, entries: Sequence[StreamEntry]) -> tuple[list[Job], list[Unreadable]]:
        """The jobs of these entries that have not changed since, and the jobs that cannot be decoded."""
        wanted = {each.number: each.version for each in entries}
        jobs, damaged = self.session.read(find.by_number, list(wanted))
        return [job for job in jobs if job.ended and job.version == wanted[job.number]], damaged

    def each_output(self, numbers: Sequence[int], keep: Callable[[list[tuple[int, Chunk]]], None]) -> None:
        """Call `keep` with all output of these jobs, in parts, each chunk with the number of its job."""

        def read(line: Line) -> None:
            for chunks in output.of_jobs(line, numbers):
                keep(chunks)

        self.session.read(read)

    def archive_done(self, entries: Sequence[StreamEntry]) -> tuple[list[StreamEntry], list[StreamEntry]]:
        """Commit that the archive has copies.

        Returns the entries of jobs that changed meanwhile, and of deleted jobs.
        """
        words = [
            word for each in entries for word in (each.entry, f"{each.number:016}", each.version, each.id)
        ]
        changed, deleted = (
            {entry.decode() for entry in names} for names in self._run("archive_done", *words)
        )
        return [e for e in entries if e.entry in changed], [e for e in entries if e.entry in deleted]

    def drop_entries(self, entries: Sequence[StreamEntry]) -> None:
        """Remove entries, because the archive has deleted their copies."""
        self._run("drop_entries", *[each.entry for each in entries])

    def keep_live(self, entries: Sequence[StreamEntry]) -> None:
        """Keep the jobs of these entries in Redis, because the archive cannot store them."""
        self._run("keep_live", *[w for e in entries for w in (e.entry, f"{e.number:016}", str(e.version))])

    def fresh_number(self) -> int:
        """A number that no job has."""
        return int(self.session.write(_call, "INCR", "number"))

    def waiting(self) -> int:
        """The number of jobs that have ended and are not archived yet."""
        return int(self._call("XLEN", "stream"))

    def forget_archivers(self) -> None:
        """Forget the archivers of workers that have exited and left no entries."""
        self.session.write(_forget_archivers)

    # archived → restoring → live

    def restore(
        self, jobs: Sequence[tuple[Job, Job, Event | None]]
    ) -> list[tuple[SaveResult, Restored | None]]:
        """Restore jobs. Each is given as archived and as it should become, with the event of the change."""
        now, answers = self.now(), list[tuple[SaveResult, Restored | None]]()
        for batch in _batches(jobs):
            words = [word for each in batch for word in _restore_words(*each)]
            said = self._run("restore", now, *words)
            answers += [_restored(was, *answer) for (was, *_), answer in zip(batch, said, strict=True)]
        return answers

    def restored_so_far(self) -> int:
        """The total number of restores. If it rises, a reader of both sides may have missed a job."""
        return int(self._call("GET", "arrivals") or 0)

    def restoring(self) -> list[Restored]:
        """The restored jobs whose copies may still be in the archive."""
        flat = self._call("HGETALL", "arriving")
        return [_noted(int(n), note.decode()) for n, note in zip(flat[::2], flat[1::2], strict=True)]

    def restore_done(self, jobs: Sequence[Restored]) -> None:
        """Let restored jobs be claimed, because the archive has deleted their copies."""
        self._run("restore_done", self.now(), *[w for job in jobs for w in (f"{job.number:016}", job.note)])

    # → deleting → gone

    def delete_archived(self, jobs: Sequence[Job], tell: Actor | None) -> set[int]:
        """Delete archived jobs. Returns the numbers of the deleted jobs; the caller then deletes their copies."""
        return self._delete_archived([(job, purge.deletion(job, tell)) for job in jobs])

    def discard_archived(self, copies: Sequence[Copy]) -> set[int]:
        """The same for copies that cannot be decoded. This is no event."""
        return self._delete_archived([(copy, "") for copy in copies])

    def _delete_archived(self, told: Sequence[tuple[Job | Copy, str]]) -> set[int]:
        words = [
            word
            for job, event in told
            for word in (f"{job.number:016}", job.id, str(job.version), job.state, job.queue, event)
        ]
        return (
            {int(number) for number in self._run("delete_archived", self.now(), *words)} if words else set()
        )

    def deleting(self) -> dict[int, str]:
        """The numbers and ids of deleted jobs whose copies may still be in the archive."""
        flat = self._call("HGETALL", "leaving")
        return {int(number): id.decode() for number, id in zip(flat[::2], flat[1::2], strict=True)}

    def delete_done(self, numbers: Iterable[int]) -> None:
        """Forget these deletions, because the archive has deleted the copies."""
        self._run("delete_done", self.now(), *[f"{number:016}" for number in numbers])

    # The binding of queue and archive

    def binding(self) -> Binding:
        """The name of the queue, and the archive that it is bound to."""
        return _binding(self._ask("bind"))

    def bind(self, mark: str, shown: str) -> Binding:
        """Bind the queue to the archive with this mark, unless it is bound to another one."""
        return _binding(self._run("bind", mark, shown))

    # Queries

    def locate(self, ids: Sequence[str]) -> dict[str, Job | Unreadable | None]:
        """The jobs with these ids that are in Redis; None for each archived job. Unknown ids are omitted."""
        found: dict[str, Job | Unreadable | None] = {}
        for batch in _batches(ids):
            for id, answer in zip(batch, self._ask("locate", *batch), strict=True):
                if answer == b"past":
                    found[id] = None
                elif answer is not None:
                    jobs, damaged = codec.sift([answer], rows.job)
                    found[id] = jobs[0] if jobs else damaged[0]
        return found

    def has_output(self, attempt_id: str) -> bool:
        """Whether Redis has output of an attempt."""
        return self.session.read(output.exists, attempt_id)

    def attempt_runs(self, attempt_id: str) -> bool:
        """Whether an attempt is running."""
        return bool(self._ask("attempt_runs", attempt_id))

    # The audit, after one side was set back in time

    def enter_ended(self, state: str, after: str, limit: int, *, repairs: bool) -> tuple[int, str]:
        """Enter ended jobs without an entry into the stream.

        Returns their number, and the beginning of the next piece.
        """
        missing, last = self._run("archive_ended", str(int(repairs)), state, after, limit)
        return int(missing), last.decode()

    def archived_ids(self) -> Iterator[dict[str, int]]:
        """Yields the ids in `past` with their versions, some hundreds at a time. An id may be returned twice."""
        cursor = None
        while cursor != b"0":
            cursor, flat = self._call("ZSCAN", "past", cursor or b"0", "COUNT", STRIDE)
            pairs = zip(flat[::2], flat[1::2], strict=True)
            yield {id.decode(): int(float(version)) for id, version in pairs}

    def forget_missing(self, missing: dict[str, int], *, repairs: bool) -> int:
        """Forget archived jobs that the archive has lost. Returns their number."""
        words = [word for pair in missing.items() for word in pair]
        return int(self._run("forget_missing", str(int(repairs)), *words)) if missing else 0

    def raise_number(self, floor: int | None) -> None:
        """Raise the counter of job numbers to at least this number. None if the archive cannot be reached."""
        self._run("raise_number", *(() if floor is None else (floor,)))


def _binding(answer: list[bytes | None]) -> Binding:
    queue, mark, shown = (None if part is None else part.decode() for part in answer)
    return Binding(queue or "", mark, shown)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + STRIDE] for start in range(0, len(items), STRIDE))


def _call(line: Line, verb: str, key: str, *words: Word) -> Any:
    return line.call(verb, line.key(key), *words)


def _read_entries(line: Line, archiver: str, limit: int, wait_ms: int) -> list[StreamEntry]:
    try:
        mine = _read_group(line, archiver, limit, "0")
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        _create_group(line)
        mine = []
    if mine:
        return mine
    claimed = line.call("XAUTOCLAIM", line.key("stream"), GROUP, archiver, ABANDONED_MS, "0", "COUNT", limit)
    return _entries(claimed[1]) or _read_group(line, archiver, limit, ">", wait_ms)


def _read_group(line: Line, archiver: str, limit: int, after: str, wait_ms: int = 0) -> list[StreamEntry]:
    block = ("BLOCK", wait_ms) if wait_ms else ()
    words = ("GROUP", GROUP, archiver, "COUNT", limit, *block, "STREAMS", line.key("stream"), after)
    found = line.call("XREADGROUP", *words)
    return _entries(found[0][1]) if found else []


def _create_group(line: Line) -> None:
    """Create the group of readers again after the stream was deleted.

    It reads all entries again, which is idempotent.
    """
    try:
        line.call("XGROUP", "CREATE", line.key("stream"), GROUP, "0", "MKSTREAM")
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def _forget_archivers(line: Line) -> None:
    for archiver in line.call("XINFO", "CONSUMERS", line.key("stream"), GROUP):
        known = dict(zip(archiver[::2], archiver[1::2], strict=True))
        if known[b"pending"] == 0 and known[b"idle"] > FORGOTTEN_MS:
            line.call("XGROUP", "DELCONSUMER", line.key("stream"), GROUP, known[b"name"])


def _entries(found: Iterable[tuple[bytes, list[bytes]] | None]) -> list[StreamEntry]:
    """Decode entries. An entry that was removed after it was read is empty or has no fields."""
    return [_entry(*each) for each in found if each is not None and each[1]]


def _entry(entry: bytes, flat: list[bytes]) -> StreamEntry:
    """Decode an entry. One that was added by hand is treated as the entry of a job that does not exist."""
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    number, version = (fields.get(name, b"") for name in (b"number", b"version"))
    if not number.isdigit() or not version.isdigit():
        return StreamEntry(entry.decode(), 0, 0, "")
    return StreamEntry(entry.decode(), int(number), int(version), fields.get(b"id", b"").decode())


def _restore_words(was: Job, job: Job, event: Event | None) -> tuple[str | bytes, ...]:
    return (f"{was.number:016}", str(was.version), was.state, was.queue, rows.new(job, event))


def _restored(was: Job, answer: bytes, version: bytes = b"") -> tuple[SaveResult, Restored | None]:
    if answer != b"accepted":
        return "duplicate" if answer == b"taken" else "stale", None
    return int(version), Restored(was.number, was.id, int(version))


def _noted(number: int, note: str) -> Restored:
    version, _, id = note.partition(" ")
    return Restored(number, id, int(version))
