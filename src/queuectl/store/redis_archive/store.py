"""The store contract over two: a queue in Redis, and MongoDB for what has ended. Who asks sees one.

A job is in the queue, in the archive, or for a moment in both, never in neither. The queue knows what is past: so it is
asked first, and again about what the archive answers.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from queuectl.domain.job import TERMINAL, Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.topics import Topic
from queuectl.domain.worker import Instruction, Worker
from queuectl.errors import OutcomeUnknown, StoreError, StoreUnavailable, StoreUnusable
from queuectl.store.driver import codec, verdict
from queuectl.store.protocol import Added, AttemptRef, Description, Entry, Saved, Subscription, Table
from queuectl.store.redis import find, purge, write
from queuectl.store.redis.store import RedisStore
from queuectl.store.redis_archive import audit_steps, transfer
from queuectl.store.redis_archive.archiver import Archiver
from queuectl.store.redis_archive.audit import Audit

if TYPE_CHECKING:
    from queuectl.store.redis_archive.archive import Archive

Kept = TypeVar("Kept", Job, Unreadable, audit_steps.Copy)
LAST_SECONDS = 3.0
"""What a worker that leaves has to hand over what has ended: less than its holder waits for it."""
LOOKS = 3
"""How often both are asked about jobs that are in neither answer, because they moved in between."""


class ArchivedStore:
    """A queue and its archive. The mover starts with the first beat: only workers have one."""

    def __init__(self, live: RedisStore, open_archive: Callable[[], "Archive"]) -> None:
        self._live, self._open_archive = live, open_archive
        self.archiver = Archiver(live.session, lambda: self._archive, lambda: live.moment)

    @cached_property
    def _archive(self) -> "Archive":
        """The archive, opened when it is first asked for: its driver takes longer to load than most commands run."""
        from queuectl.store.redis_archive.binding import bind

        past = self._open_archive()
        past.bind = lambda base, shown: bind(self._live.session, base, shown)
        return past

    @property
    def _opened(self) -> "Archive | None":
        return self.__dict__.get("_archive")

    def now(self) -> datetime:
        return self._live.now()

    def add(self, jobs: Sequence[Job]) -> list[Added]:
        if not jobs:
            return []
        said = self._add(jobs)
        known = [job.id for job, added in zip(jobs, said, strict=True) if added is None]
        try:
            past = self.get(known)
            return [added or _known(job, past) for job, added in zip(jobs, said, strict=True)]
        except StoreError as error:
            if len(known) == len(jobs):
                raise  # nothing was changed
            raise OutcomeUnknown(f"a part was stored: {error.message}", error.hint) from error

    def _add(self, jobs: Sequence[Job]) -> list[Added | None]:
        try:
            return self._live.session.write(lambda line: write.try_add(line, jobs, self._live.moment))
        except write.Unsure:
            greatest = self._max_number()
            self._live.session.write(lambda line: audit_steps.raise_number(line, greatest))
            return self._live.session.write(lambda line: write.try_add(line, jobs, self._live.moment))

    def _max_number(self) -> int | None:
        """The greatest number that the archive has; None if it is away, which is no reason to take no jobs."""
        try:
            return self._archive.max_number()
        except StoreError:
            return None

    def get(self, ids: Sequence[str]) -> Jobs:
        found, missing = dict[str, Job | Unreadable](), list(ids)
        for _ in range(LOOKS):
            where = self._where(missing)
            found |= {id: each for id, each in where.items() if each is not None}
            past = [id for id, each in where.items() if each is None]
            if past:
                answer = self._archive.get(past)
                found |= {**answer, **answer.unreadable}
            missing = [id for id in where if id not in found]
            if not missing:
                break
        known = [found[id] for id in ids if id in found]
        return Jobs(
            (each for each in known if isinstance(each, Job)),
            (each for each in known if isinstance(each, Unreadable)),
        )

    def _where(self, ids: Sequence[str]) -> dict[str, Job | Unreadable | None]:
        """What is in the queue of these jobs, and None for each that is past."""
        return self._live.session.read(lambda line: transfer.locate(line, ids)) if ids else {}

    def find(self, wanted: Filter, page: Page) -> Found:
        if wanted.states and not wanted.states & TERMINAL:
            return self._live.find(wanted, page)
        found = self._find_consistently(wanted, page)
        while (
            found.next is not None and len(found.jobs) < page.limit
        ):  # copies that are no jobs were left out
            rest = replace(page, after=found.next, limit=page.limit - len(found.jobs))
            more = self._find_consistently(wanted, rest)
            found = Found([*found.jobs, *more.jobs], more.next, [*found.unreadable, *more.unreadable])
        return found

    def _find_consistently(self, wanted: Filter, page: Page) -> Found:
        """A page; once more if jobs came back from the archive meanwhile."""
        for _ in range(LOOKS):
            arrivals = self._arrivals()
            found = self._find(wanted, page)
            if self._arrivals() == arrivals:
                break
        return found

    def _arrivals(self) -> int:
        return self._live.session.read(transfer.restore_count)

    def _find(self, wanted: Filter, page: Page) -> Found:
        live, past = self._live.find(wanted, page), self._archive.find(wanted, page)
        jobs = {job.id: job for job in self._still(past.jobs)} | {job.id: job for job in live.jobs}
        ends = [answer for answer in (live, past) if answer.next is not None]
        found = _page(list(jobs.values()), page, ends)
        return replace(found, unreadable=[*live.unreadable, *self._still(past.unreadable)])

    def _still(self, copies: Sequence[Kept]) -> list[Kept]:
        """The copies that are jobs: what is here by now, or was deleted, is told by the queue."""
        where = self._where([copy.id for copy in copies])
        return [copy for copy in copies if where.get(copy.id, copy) is None]

    def counts(self, wanted: Filter) -> Counts:
        if find.has_sums(wanted):
            return self._live.counts(wanted)  # the queue goes on counting what it has handed over
        found, page = Counts({}), Page(limit=find.STRIDE)
        while True:
            piece = self.find(wanted, page)
            for job in piece.jobs:
                states = found.queues.setdefault(job.queue, {})
                states[job.state] = states.get(job.state, 0) + 1
            if piece.next is None:
                return found
            page = replace(page, after=piece.next)

    def due_since(self) -> dict[str, datetime]:
        return self._live.due_since()

    def claim(self, worker: str, queues: Sequence[str], limit: int, lease: timedelta) -> list[Job]:
        return self._live.claim(worker, queues, limit, lease)

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        return self._live.renew(worker, held, lease)

    def save(self, jobs: Sequence[Job]) -> list[Saved]:
        if not jobs:
            return []
        said = self._live.session.write(lambda line: write.try_save(line, jobs, self._live.moment))
        back = self._bring_back([job for job, answer in zip(jobs, said, strict=True) if answer == "past"])
        return [
            back.get(job.id) or verdict.saved(job, write.without_archive(answer))
            for job, answer in zip(jobs, said, strict=True)
        ]

    def _bring_back(self, jobs: Sequence[Job]) -> dict[str, Saved]:
        """Jobs of the archive are changed, which brings them back into the queue."""
        if not jobs:
            return {}
        past, moment = self._archive.get([job.id for job in jobs]), self._live.moment
        pairs = [
            (past[job.id], _changed(past[job.id], job))
            for job in jobs
            if job.id in past and past[job.id].version == job.version
        ]
        if not pairs:
            return {}
        said = self._live.session.write(lambda line: transfer.restore(line, moment, pairs))
        with suppress(StoreError, OutcomeUnknown):  # they are noted as arriving: a mover does it
            self.archiver.finish_restores([arrival for _, arrival in said if arrival is not None])
        return {job.id: verdict.saved(job, answer) for (_, job), (answer, _) in zip(pairs, said, strict=True)}

    def expired_leases(self, limit: int) -> list[Job]:
        return self._live.expired_leases(limit)

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        return self._live.write_output(chunks, trims)

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        found = self._live.read_output(attempt_id, after, limit)
        if found or self._live.has_output(attempt_id) or self._runs(attempt_id):
            return found
        return self._archive.read_output(attempt_id, after, limit)

    def _runs(self, attempt_id: str) -> bool:
        return self._live.session.read(lambda line: transfer.attempt_runs(line, attempt_id))

    def heartbeat(self, worker: Worker) -> Instruction | None:
        self.archiver.start()
        return self._live.heartbeat(worker)

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        return self._live.pending_instruction(worker_id)

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        return self._live.instruct(worker_id, instruction)

    def workers(self) -> list[Worker]:
        return self._live.workers()

    def forget(self, worker_id: str) -> None:
        self._live.forget(worker_id)

    def read_table(self, table: Table) -> dict[str, Entry]:
        return self._live.read_table(table)

    def compare_and_swap(self, table: Table, key: str, value: dict[str, Any] | None, version: int) -> bool:
        return self._live.compare_and_swap(table, key, value, version)

    def purge(self, wanted: Filter, limit: int) -> list[str]:
        if limit < 1:
            return []
        here = self._live.session.read(lambda line: purge.oldest(line, wanted, limit))
        known = {job.number for job in here}
        there = [job for job in self._oldest_past(wanted, limit) if job.number not in known]
        chosen = sorted((*here, *there), key=lambda job: (job.finished_at, job.number))[:limit]
        gone = self._delete([job for job in chosen if job.number in known])
        gone |= self._delete_past([job for job in chosen if job.number not in known])
        with suppress(
            StoreError, OutcomeUnknown
        ):  # they are gone, and noted as leaving: a mover does the rest
            self.archiver.finish_deletes({job.number: job.id for job in chosen if job.number in gone})
        return [job.id for job in chosen if job.number in gone]

    def _oldest_past(self, wanted: Filter, limit: int) -> list[Job]:
        return self._still(self._archive.oldest(wanted, limit))

    def _delete(self, jobs: list[Job]) -> set[int]:
        moment = self._live.moment
        return self._live.session.write(lambda line: purge.delete(line, jobs, moment)) if jobs else set()

    def _delete_past(self, jobs: list[Job]) -> set[int]:
        moment = self._live.moment
        return (
            self._live.session.write(lambda line: transfer.delete_archived(line, jobs, moment))
            if jobs
            else set()
        )

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        return self._live.set_aside(expired=expired)

    def discard(self, numbers: Sequence[int]) -> list[int]:
        gone = self._live.discard(numbers)
        left = [number for number in numbers if number not in gone]
        copies = self._still(self._archive.damaged(left)) if left else []
        moment = self._live.moment
        past = self._live.session.write(lambda line: transfer.delete_archived(line, copies, moment))
        with suppress(StoreError, OutcomeUnknown):  # they are gone, and noted as leaving
            self.archiver.finish_deletes({copy.number: copy.id for copy in copies if copy.number in past})
        return sorted([*gone, *past])

    def subscribe(self, wanted: Iterable[Topic]) -> Subscription:
        return self._live.subscribe(wanted)

    def background_fault(self) -> str | None:
        return None if self._opened is None else self._opened.trouble

    def describe(self, *, thorough: bool = False) -> Description:
        said = self._live.describe(thorough=thorough)
        waiting = self._live.session.read(transfer.waiting)
        details = {**said.details, "to_archive": str(waiting)}
        if not thorough:
            return replace(said, details=details, archived=True)
        details["archive"] = self._archive.shown
        try:
            found, wrong = self._archive.describe(), self._audit()
        except (StoreUnavailable, StoreUnusable) as error:
            who = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
            found, wrong = {}, [f"{who} for the archive: {error.message}"]
        return replace(said, details={**details, **found}, faults=(*said.faults, *wrong), archived=True)

    def _audit(self) -> list[str]:
        """What queue and archive do not agree about."""
        audit = Audit(self._live.session, self._archive, lambda: self._live.moment, threading.Event())
        return [f"{count} {what}: workers mend them" for what, count in audit.look().items()]

    def migrate(self) -> None:
        self._live.migrate()

    def close(self) -> None:
        self.archiver.finish(LAST_SECONDS)
        self._live.close()
        if self._opened is not None:
            self._opened.close()


def _changed(was: Job, job: Job) -> Job:
    return replace(job, spec=was.spec, number=was.number, created_at=was.created_at)


def _page(jobs: list[Job], page: Page, cut_off: list[Found]) -> Found:
    """The first of them, and none that lies behind what an answer was `cut_off` at."""

    def place(job: Job) -> tuple[int, ...]:
        return codec.place(job, page.sort)

    ends = sorted((answer.jobs[-1] for answer in cut_off), key=place)
    known = sorted((job for job in jobs if not ends or place(job) <= place(ends[0])), key=place)
    shown = known[: page.limit]
    last = shown[-1] if len(known) > len(shown) else ends[0] if ends else None
    return Found(shown, None if last is None else codec.cursor(last, page.sort))


def _known(job: Job, past: Jobs) -> Added:
    """The id of a new job is in the archive."""
    if job.id in past.unreadable:
        return verdict.unreadable(job, past.unreadable[job.id])
    other = past.get(job.id)
    if other is None:
        raise StoreUnavailable(f"job {job.id} is on its way between queue and archive", "try again")
    return verdict.known(job, other)
