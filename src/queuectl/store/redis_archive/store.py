"""Implements the store contract on a queue in Redis and an archive in MongoDB for ended jobs.

Redis decides which jobs are archived. So it is queried first, and once more about each copy that the archive returns.
`lifecycle.py` has the states and the invariant.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from queuectl.domain.event import Actor, Event
from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import OutcomeUnknown, StoreError, StoreUnavailable, StoreUnusable
from queuectl.store.driver import filters, paging, verdict
from queuectl.store.protocol import Added, Description, Saved, Swap
from queuectl.store.redis import find, rows, write
from queuectl.store.redis.store import RedisStore
from queuectl.store.redis_archive.archiver import Archiver
from queuectl.store.redis_archive.audit import Audit, last_repair
from queuectl.store.redis_archive.transfer import Copy, Transfer

if TYPE_CHECKING:
    from queuectl.store.redis_archive.archive import Archive

Named = TypeVar("Named", Job, Unreadable, Copy)
LAST_SECONDS = 3.0
"""Seconds for which an agent archives ended jobs before it exits. Its holder waits for the exit longer than this."""
TRIES = 3
"""How often both sides are queried if jobs move between the queries."""


class ArchivedStore(RedisStore):
    """A queue and its archive. The archiver starts with the first heartbeat, so only workers have an archiver."""

    ARCHIVES = True

    def __init__(self, url: str, open_archive: Callable[[], "Archive"], **options: Any) -> None:
        super().__init__(url, **options)
        self._open_archive = open_archive
        self._queue = Transfer(self.session, self._moment)
        self.archiver = Archiver(self._queue, lambda: self._archive)

    @cached_property
    def _archive(self) -> "Archive":
        """The archive. It is opened at its first use, because loading its driver takes longer than most commands."""
        from queuectl.store.redis_archive.binding import bind

        archive = self._open_archive()
        archive.bind = lambda base, shown: bind(self._queue, base, shown)
        return archive

    @property
    def _opened(self) -> "Archive | None":
        return self.__dict__.get("_archive")

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        if not jobs:
            return []
        said = self._add(jobs, events)
        known = [job.id for job, added in zip(jobs, said, strict=True) if added is None]
        try:
            found = self.get(known)
            return [added or _known(job, found) for job, added in zip(jobs, said, strict=True)]
        except StoreError as error:
            if len(known) == len(jobs):
                raise  # raised unchanged: nothing was changed
            raise OutcomeUnknown(f"a part was stored: {error.message}", error.hint) from error

    def _add(self, jobs: Sequence[Job], events: Sequence[Event | None]) -> list[Added | None]:
        try:
            return self._queue.add(jobs, events)
        except write.NumberFloorUnknown:
            self._queue.raise_number(self._max_number())
            return self._queue.add(jobs, events)

    def _swap(self, swaps: Sequence[Swap]) -> list[bool]:
        made = list[bool]()
        for each in swaps:
            try:
                made.append(self._swap_one(each))
            except StoreError as error:
                if not any(made):
                    raise  # raised unchanged: nothing was changed
                raise OutcomeUnknown(f"a part was stored: {error.message}", error.hint) from error
        return made

    def _swap_one(self, swap: Swap) -> bool:
        try:
            return super()._swap([swap])[0]
        except write.NumberFloorUnknown:
            self._queue.raise_number(self._max_number())
            return super()._swap([swap])[0]

    def _max_number(self) -> int | None:
        """The greatest number in the archive. None if it cannot be reached, which is no reason to refuse jobs."""
        try:
            return self._archive.max_number()
        except StoreError:
            return None

    def get(self, ids: Sequence[str]) -> Jobs:
        found, missing = dict[str, Job | Unreadable](), list(ids)
        for _ in range(TRIES):
            located = self._queue.locate(missing)
            found |= {id: each for id, each in located.items() if each is not None}
            archived = [id for id, each in located.items() if each is None]
            if archived:
                answer = self._archive.get(archived)
                found |= {**answer, **answer.unreadable}
            missing = [id for id in located if id not in found]  # these were restored between the two queries
            if not missing:
                break
        known = [found[id] for id in ids if id in found]
        return Jobs(
            (each for each in known if isinstance(each, Job)),
            (each for each in known if isinstance(each, Unreadable)),
        )

    def find(self, wanted: Filter, page: Page) -> Found:
        """One page of the jobs of both sides, without copies that do not count as jobs."""
        if wanted.states and not wanted.states & TERMINAL:
            return super().find(wanted, page)
        found = self._find_settled(wanted, page)
        # If this page is short and not the last, some copies did not count as jobs: read on.
        while found.next is not None and len(found.jobs) < page.limit:
            rest = replace(page, after=found.next, limit=page.limit - len(found.jobs))
            more = self._find_settled(wanted, rest)
            found = Found([*found.jobs, *more.jobs], more.next, [*found.unreadable, *more.unreadable])
        return found

    def _find_settled(self, wanted: Filter, page: Page) -> Found:
        """One page, which is read again if jobs were restored meanwhile.

        Redis is read first, so a job that is archived between the two reads is in both answers. A job that is restored
        between them would be in neither: it was not in Redis yet, and its copy is not archived any more.
        """
        for _ in range(TRIES):
            before = self._queue.restored_so_far()
            found = self._find_union(wanted, page)
            if self._queue.restored_so_far() == before:
                break
        return found

    def _find_union(self, wanted: Filter, page: Page) -> Found:
        live, archived = super().find(wanted, page), self._archive.find(wanted, page)
        jobs = {job.id: job for job in self._archived(archived.jobs)} | {job.id: job for job in live.jobs}
        partial = [answer for answer in (live, archived) if answer.next is not None]
        found = _page(list(jobs.values()), page, partial)
        return replace(found, unreadable=[*live.unreadable, *self._archived(archived.unreadable)])

    def _archived(self, copies: Sequence[Named]) -> list[Named]:
        """The copies that count as archived jobs. The other jobs are in Redis, or were deleted."""
        located = self._queue.locate([copy.id for copy in copies])
        return [copy for copy in copies if copy.id in located and located[copy.id] is None]

    def counts(self, wanted: Filter) -> Counts:
        if filters.has_sums(wanted):
            return super().counts(wanted)  # Redis also counts archived jobs
        return filters.count(self._all(wanted))

    def _all(self, wanted: Filter) -> Iterator[Job]:
        """The jobs that match, on both sides."""
        page = Page(limit=find.STRIDE)
        while True:
            piece = self.find(wanted, page)
            yield from piece.jobs
            if piece.next is None:
                return
            page = replace(page, after=piece.next)

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        if not jobs:
            return []
        said = self._queue.save(jobs, events)
        past = {job.id for job, answer in zip(jobs, said, strict=True) if answer == "past"}
        restored = self._restore([told for told in rows.with_events(jobs, events) if told[0].id in past])
        return [
            restored.get(job.id) or verdict.saved(job, write.without_archive(answer))
            for job, answer in zip(jobs, said, strict=True)
        ]

    def _restore(self, told: Sequence[tuple[Job, Event | None]]) -> dict[str, Saved]:
        """Save archived jobs. This restores them to the queue."""
        if not told:
            return {}
        copies = self._archive.get([job.id for job, _ in told])
        same = [
            (copies[job.id], _changed(copies[job.id], job), event)
            for job, event in told
            if _is_same(copies, job)
        ]
        if not same:
            return {}
        said = self._queue.restore(same)
        with suppress(StoreError, OutcomeUnknown):  # an archiver completes the restores that `arriving` lists
            self.archiver.finish_restores([restored for _, restored in said if restored is not None])
        return {
            job.id: verdict.saved(job, answer) for (_, job, _), (answer, _) in zip(same, said, strict=True)
        }

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        found = super().read_output(attempt_id, after, limit)
        if found or self._queue.has_output(attempt_id) or self._queue.attempt_runs(attempt_id):
            return found
        return self._archive.read_output(attempt_id, after, limit)

    def heartbeat(self, worker: Worker) -> Instruction | None:
        self.archiver.start()
        return super().heartbeat(worker)

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        if limit < 1:
            return []
        live = self._queue.oldest(wanted, limit)
        numbers = {job.number for job in live}
        archived = self._archived(self._archive.oldest(wanted, limit))
        both = (*live, *(job for job in archived if job.number not in numbers))
        chosen = sorted(both, key=lambda job: (job.finished_at, job.number))[:limit]
        deleted = self._queue.delete_live([job for job in chosen if job.number in numbers], tell)
        deleted |= self._queue.delete_archived([job for job in chosen if job.number not in numbers], tell)
        self._finish_deletes(job for job in chosen if job.number in deleted)
        return [job.id for job in chosen if job.number in deleted]

    def discard(self, numbers: Sequence[int]) -> list[int]:
        live = super().discard(numbers)
        others = [number for number in numbers if number not in live]
        copies = self._archived(self._archive.damaged(others)) if others else []
        archived = self._queue.discard_archived(copies)
        self._finish_deletes(copy for copy in copies if copy.number in archived)
        return sorted([*live, *archived])

    def _finish_deletes(self, jobs: Iterable[Job | Copy]) -> None:
        """Delete the copies of deleted jobs.

        If this fails, an archiver completes the deletions that `leaving` lists.
        """
        with suppress(StoreError, OutcomeUnknown):
            self.archiver.finish_deletes({job.number: job.id for job in jobs})

    def background_fault(self) -> str | None:
        return None if self._opened is None else self._opened.fault

    def describe(self, *, thorough: bool = False) -> Description:
        said, waiting = super().describe(thorough=thorough), self._queue.waiting()
        details = {**said.details, "to_archive": str(waiting)}
        if not thorough:
            return replace(said, details=details, archived=True)
        details |= {"archive": self._archive.shown, **self._last_repair()}
        try:
            found, wrong = self._archive.describe(), self._audit()
        except (StoreUnavailable, StoreUnusable) as error:
            subject = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
            found, wrong = {}, [f"{subject} for the archive: {error.message}"]
        return replace(said, details={**details, **found}, faults=(*said.faults, *wrong), archived=True)

    def _audit(self) -> list[str]:
        """The differences between queue and archive."""
        found = Audit(self._queue, self._archive).look()
        return [f"{count} {what}: workers mend them" for what, count in found.items()]

    def _last_repair(self) -> dict[str, str]:
        last = self.session.read(last_repair)
        if last is None:
            return {}
        when, kinds = last
        what = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        return {"mended": f"{what}, at {when:%Y-%m-%dT%H:%M:%SZ}"}

    def close(self) -> None:
        self.archiver.finish(LAST_SECONDS)
        super().close()
        if self._opened is not None:
            self._opened.close()


def _changed(was: Job, job: Job) -> Job:
    return replace(job, spec=was.spec, number=was.number, created_at=was.created_at)


def _is_same(copies: Jobs, job: Job) -> bool:
    """Whether the archive has the version on which this change of the job is based."""
    return job.id in copies and copies[job.id].version == job.version


def _page(jobs: list[Job], page: Page, partial: list[Found]) -> Found:
    """One page of these jobs. It ends where a `partial` result ends, because the next jobs there are unknown."""

    def position(job: Job) -> tuple[int, ...]:
        return paging.position(job, page.sort)

    ends = sorted((answer.jobs[-1] for answer in partial), key=position)
    known = sorted((job for job in jobs if not ends or position(job) <= position(ends[0])), key=position)
    shown = known[: page.limit]
    last = shown[-1] if len(known) > len(shown) else ends[0] if ends else None
    return Found(shown, None if last is None else paging.cursor(last, page.sort))


def _known(job: Job, found: Jobs) -> Added:
    """The result of adding a job whose id an archived job has."""
    if job.id in found.unreadable:
        return verdict.unreadable(job, found.unreadable[job.id])
    other = found.get(job.id)
    if other is None:
        raise StoreUnavailable(f"job {job.id} is moving between queue and archive", "try again")
    return verdict.known(job, other)
