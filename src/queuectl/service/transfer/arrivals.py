"""Brings the jobs of an import into the store, with their output, a batch at a time.

A job without output is added in its own state: one write. A job with output
arrives in three steps (`domain/arrival.py`).
An import that finds an arriving job finishes it, so a killed import is repeated, and two may run at once.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.domain.arrival import arriving, renumbered, without_key
from queuectl.domain.ids import handle
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.errors import CommandFailed, Conflict
from queuectl.service import maintenance
from queuectl.service.changing import TRIES
from queuectl.service.transfer.entries import RESOLVE
from queuectl.service.transfer.tally import Imported, OnConflict
from queuectl.store.protocol import Added, Store

BATCH, BATCH_BYTES = 500, 8 << 20
"""The most jobs, and about the most bytes of jobs and their output, that are in memory."""
WRITE_CHUNKS, WRITE_BYTES = 256, 1 << 20
"""The most chunks, and about the most bytes, of one write of output."""


class Item:
    """A job of the file. `stored` is the arriving job in the store, until it has arrived."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.chunks: list[Chunk] = []
        self.has_output = False
        self.is_settled = False
        self.stored: Job | None = None


class Arrivals:
    """The jobs of one batch. `flush` stores them."""

    def __init__(self, store: Store, done: Imported, on_conflict: OnConflict, *, dry_run: bool) -> None:
        self._store, self._done, self._on_conflict, self._dry_run = store, done, on_conflict, dry_run
        self._jobs = done.by_kind["job"]
        self._items: list[Item] = []
        self._bytes = 0
        self._conflict: Conflict | None = None
        self._highest = store.last_number() if dry_run else 0

    @property
    def is_full(self) -> bool:
        """Whether the batch is to be stored before the next job is added."""
        return len(self._items) >= BATCH or self._bytes >= BATCH_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether the batch has no job."""
        return not self._items

    def add(self, job: Job, size: int) -> Item:
        """Take a job into the batch. `size`: of its line, in bytes."""
        self._items.append(Item(job))
        self._bytes += size
        return self._items[-1]

    def add_output(self, item: Item, chunk: Chunk) -> None:
        """Take output of the last job of the batch. Much output is written at once, while its job arrives."""
        item.has_output = True
        if self._dry_run:
            return
        item.chunks.append(chunk)
        self._bytes += len(chunk.data)
        if self._bytes >= BATCH_BYTES:
            self._process(unfinished=item)

    def leave_out(self, item: Item) -> None:
        """Take a job out of the batch, because its output is incomplete. If it is in the store, it stays arriving."""
        self._items.remove(item)

    def flush(self) -> int:
        """Store the batch. Returns its number of jobs. Raises Conflict for the first conflict under `error`."""
        count = len(self._items)
        if self._dry_run:
            self._compare()
        else:
            self._process()
        if self._conflict:
            raise Conflict(f"{self._conflict.message}; {self._done.so_far}", self._conflict.hint)
        return count

    def _process(self, unfinished: Item | None = None) -> None:
        """Let all jobs arrive, and end the arrival of all but the unfinished one."""
        for run in _runs(self._items):
            self._add([item for item in run if not item.is_settled and item.stored is None])
            crashpoint.reach("import_added")
            self._write_output(run)
            crashpoint.reach("import_output")
            self._finish([item for item in run if item.stored and item is not unfinished])
            crashpoint.reach("import_saved")
        self._items = [unfinished] if unfinished else []
        self._bytes = 0

    def _add(self, items: Sequence[Item]) -> None:
        """Add the jobs that the store does not have.

        They are looked up first: some stores use up a number for a job that they refuse, and then a repeated import
        would not keep the numbers of the jobs that follow.
        """
        found = self._store.get([item.job.id for item in items]) if items else {}
        for item in items:
            if (present := found.get(item.job.id)) is not None:
                same = present.spec.content == item.job.spec.content
                self._decide(item, Added("existing" if same else "conflict", present))
        self._add_new([item for item in items if item.job.id not in found])

    def _add_new(self, items: Sequence[Item]) -> None:
        """Add these jobs: those without output in their own state, the others as arriving jobs."""
        last = self._store.last_number() if items else 0
        forms = list[Job]()
        for item in items:
            kept = item.job.number > last
            last = item.job.number if kept else last + 1
            job = item.job if kept else renumbered(item.job)
            forms.append(arriving(job) if item.has_output else job)
        for item, answer in zip(items, self._store.add(forms) if forms else (), strict=True):
            self._decide(item, answer)

    def _decide(self, item: Item, answer: Added) -> None:
        """Decide what follows the answer to the add of a job."""
        present, item.is_settled = answer.job, True
        if answer.status == "added" and not item.has_output:
            self._count(item, present)
        elif answer.status == "added" or (answer.status == "existing" and present.is_arriving):
            item.stored, item.is_settled = present, False
        elif answer.status == "existing":
            self._jobs.existing += 1
        elif answer.status == "duplicate" and item.job.ended:
            item.job, item.is_settled = without_key(item.job), False
            self._add([item])
        elif self._on_conflict == "replace" and answer.status == "conflict" and present.ended:
            self._replace(item, present)
        else:
            self._refuse(item, answer)

    def _count(self, item: Item, stored: Job) -> None:
        self._jobs.added += 1
        self._done.renumbered += stored.number != item.job.number

    def _refuse(self, item: Item, answer: Added) -> None:
        if self._on_conflict == "skip":
            self._jobs.skipped += 1
        elif self._conflict is None:
            self._conflict = _conflict(item.job, answer, self._on_conflict)

    def _replace(self, item: Item, present: Job) -> None:
        """Replace a stored job that has ended: delete it, then add the job of the file with the same id."""
        maintenance.unblock_children(self._store, [present.id])
        if maintenance.delete_ended(self._store, [present]):
            item.is_settled = False
            self._jobs.replaced += 1
            self._add([item])
        else:
            self._refuse(item, Added("conflict", present))

    def _write_output(self, items: Sequence[Item]) -> None:
        """Write the output of the arriving jobs. The store refuses that of a job which another import has finished."""
        chunks = [chunk for item in items if item.stored for chunk in item.chunks]
        for group in _groups(chunks):
            self._store.write_output(group)
        for item in items:
            item.chunks = []

    def _finish(self, items: Sequence[Item]) -> None:
        """Give the arriving jobs their own state."""
        for _ in range(TRIES):
            if not items:
                return
            wanted = [_as_stored(item) for item in items]
            stale = list[Item]()
            for item, answer in zip(items, self._store.save(wanted), strict=True):
                if answer.status == "accepted":
                    self._count(item, answer.job or item.job)
                elif answer.status == "duplicate":
                    self._refuse(item, Added("duplicate", item.job))
                else:
                    stale.append(item)
            items = self._still_arriving(stale)
        raise CommandFailed("other processes change the jobs too fast", "run the same command again")

    def _still_arriving(self, items: Sequence[Item]) -> list[Item]:
        """The jobs that another import has not finished meanwhile."""
        found = self._store.get([item.job.id for item in items]) if items else {}
        for item in items:
            present = found.get(item.job.id)
            item.stored = present if present and present.is_arriving else None
            self._jobs.existing += item.stored is None
        return [item for item in items if item.stored]

    def _compare(self) -> None:
        """Count what an import would do."""
        found = self._store.get([item.job.id for item in self._items])
        last = self._highest
        for item in self._items:
            present = found.get(item.job.id)
            if present is None or present.is_arriving:
                self._jobs.added += 1
                kept = item.job.number > last
                self._done.renumbered += present is None and not kept
                last = item.job.number if kept else last + 1
            elif present.spec.content == item.job.spec.content:
                self._jobs.existing += 1
            elif self._on_conflict == "replace" and present.ended:
                self._jobs.added += 1
                self._jobs.replaced += 1
            else:
                self._refuse(item, Added("conflict", present))
        self._highest, self._items, self._bytes = last, [], 0


def _as_stored(item: Item) -> Job:
    stored = item.stored
    assert stored is not None
    return replace(
        item.job,
        number=stored.number,
        version=stored.version,
        spec=stored.spec,
        created_at=stored.created_at,
    )


def _runs(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The jobs in lists in which no two jobs have the same unique key at once: an arriving job has its key."""
    run, keys = list[Item](), set[str]()
    for item in items:
        key = item.job.spec.unique_key
        if key is not None and (item.has_output or not item.job.ended):
            if key in keys:
                yield run
                run, keys = [], set()
            keys.add(key)
        run.append(item)
    if run:
        yield run


def _groups(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    group, size = list[Chunk](), 0
    for chunk in chunks:
        if group and (len(group) >= WRITE_CHUNKS or size + len(chunk.data) > WRITE_BYTES):
            yield group
            group, size = [], 0
        group.append(chunk)
        size += len(chunk.data)
    if group:
        yield group


def _conflict(job: Job, answer: Added, on_conflict: OnConflict) -> Conflict:
    if answer.status == "duplicate":
        key, holder = job.spec.unique_key, handle(answer.job)
        return Conflict(
            f"unique key {key!r} of job {job.id} is taken by job {holder}",
            "--on-conflict skip leaves the job of the file out",
        )
    if on_conflict == "replace":
        return Conflict(
            f"job {job.id} exists with other content and is {answer.job.state}: only ended jobs can be replaced",
            f"queuectl cancel {handle(answer.job)}, then import again",
        )
    return Conflict(f"job {job.id} exists with other content", RESOLVE)
