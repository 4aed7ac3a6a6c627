"""The reference implementation of the store contract, with dictionaries and one lock. Drivers have the same results."""

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from queuectl.clock import Clock, random_bytes
from queuectl.domain import lifecycle, topics
from queuectl.domain.event import Actor, Event, between, deleted
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable, matches
from queuectl.domain.queue import QueueSettings
from queuectl.domain.topics import Topic
from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.errors import StoreAbsent
from queuectl.store.driver import filters, paging, verdict
from queuectl.store.driver.notifier import Local, Notifier
from queuectl.store.driver.numbering import brought
from queuectl.store.driver.paging import parse_cursor, parse_event_cursor, position
from queuectl.store.driver.server_clock import steady
from queuectl.store.protocol import (
    Added,
    AttemptRef,
    Description,
    Entry,
    EventPage,
    Saved,
    Subscription,
    Swap,
    Table,
    Upcoming,
)


class MemoryStore:
    """Jobs in memory. `clock` and `token` (the source of attempt ids) are arguments."""

    def __init__(self, clock: Clock | None = None, token: Callable[[], str] | None = None) -> None:
        self._clock = clock or Clock()
        self._token = token or (lambda: random_bytes(16).hex())
        self._lock = threading.RLock()
        self._notifier = Notifier(Local())
        self._jobs: dict[str, Job] = {}
        self._last_number = 0
        self._last_now = self._clock.now()
        self._output: dict[str, dict[int, Chunk]] = {}
        self._workers: dict[str, Worker] = {}
        self._asked: dict[str, Instruction] = {}
        self._shared: dict[Table, dict[str, Entry]] = {
            "settings": {},
            "queues": {},
            "schedules": {},
            "aside": {},
            "tokens": {},
            "operations": {},
            "figures": {},
            "hours": {},
            "hooks": {},
        }
        self._due: dict[tuple[Table, str], datetime] = {}
        self._events: list[Event] = []
        self._trimmed = 0

    def now(self) -> datetime:
        with self._lock:
            self._last_now = steady(self._last_now, self._clock.now())
            return self._last_now

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        with self._lock:
            self._notifier.tell_of(jobs, self.now)
            told = events or [None] * len(jobs)
            return [self._add(job, event) for job, event in zip(jobs, told, strict=True)]

    def _add(self, job: Job, event: Event | None) -> Added:
        known = self._jobs.get(job.id)
        if known:
            return verdict.known(job, known)
        holder = self._holder(job)
        if holder:
            return Added("duplicate", holder)
        self._last_number = max(self._last_number + 1, brought(job))
        stored = self._jobs[job.id] = replace(job, number=self._last_number)
        if event is not None:
            self._write(replace(event, number=stored.number))
        return Added("added", stored)

    def _write(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(replace(event, at=self.now()))

    def _holder(self, job: Job) -> Job | None:
        """Another job that has not ended and has the same unique key."""
        if job.spec.unique_key is None or job.ended:
            return None
        rivals = (j for j in self._jobs.values() if j.spec.unique_key == job.spec.unique_key)
        return next((j for j in rivals if not j.ended and j.id != job.id), None)

    def get(self, ids: Sequence[str]) -> Jobs:
        with self._lock:
            return Jobs(self._jobs[job_id] for job_id in ids if job_id in self._jobs)

    def find(self, wanted: Filter, page: Page) -> Found:
        start = None if page.after is None else parse_cursor(page.after, page.sort)
        matching = (job for job in self._matching(wanted) if job.ended or page.sort != "ended")
        jobs = sorted(matching, key=lambda job: position(job, page.sort))
        rest = [job for job in jobs if start is None or position(job, page.sort) > start]
        return paging.cut(rest, [], page)

    def _matching(self, wanted: Filter) -> list[Job]:
        with self._lock:
            return [job for job in self._jobs.values() if matches(job, wanted)]

    def counts(self, wanted: Filter) -> Counts:
        return filters.count(self._matching(wanted))

    def due_since(self) -> dict[str, datetime]:
        with self._lock:
            now, since = self.now(), dict[str, datetime]()
            for job in self._jobs.values():
                if lifecycle.is_due(job, now):
                    since[job.queue] = min(job.run_at, since.get(job.queue, job.run_at))
            return since

    def last_number(self) -> int:
        return self._last_number

    def claim(
        self, worker: str, queues: Sequence[str], limit: int, lease: timedelta, *, tell: bool = False
    ) -> list[Job]:
        with self._lock:
            now, claimed, capacities = self.now(), list[Job](), self._capacities(limit)
            due = (job for job in self._jobs.values() if lifecycle.is_due(job, now))
            for job in sorted(due, key=lambda job: position(job, "next")):
                if (
                    len(claimed) < limit
                    and (not queues or job.queue in queues)
                    and capacities.get(job.queue, limit)
                ):
                    capacities[job.queue] = capacities.get(job.queue, limit) - 1
                    taken = lifecycle.claim(
                        job, attempt_id=self._token(), worker=worker, lease=lease, now=now
                    )
                    claimed.append(self._store(taken))
                    self._write(between(job, taken) if tell else None)
            self._notifier.tell(topics.CHANGES)
            return claimed

    def _capacities(self, limit: int) -> dict[str, int]:
        """The number of jobs that may be claimed from each queue with settings."""
        running = [job.queue for job in self._jobs.values() if job.state == "processing"]
        settings = self._shared["queues"].items()
        return {
            queue: QueueSettings.of(entry.value).capacity(running.count(queue), limit)
            for queue, entry in settings
        }

    def _store(self, job: Job) -> Job:
        stored = self._jobs[job.id] = replace(job, version=job.version + 1)
        return stored

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        with self._lock:
            now = self.now()
            pairs = [(h, self._jobs[h.job_id]) for h in held if self._holds(h.job_id, h.attempt_id)]
            ours = [(h, job) for h, job in pairs if job.lease and job.lease.worker == worker]
            return [
                self._store(lifecycle.renew(job, lease=lease, now=now, progress=h.progress))
                for h, job in ours
            ]

    def _may_write(self, job_id: str, attempt_id: str) -> bool:
        job = self._jobs.get(job_id)
        return self._holds(job_id, attempt_id) or (job is not None and job.is_arriving)

    def _holds(self, job_id: str, attempt_id: str) -> bool:
        return job_id in self._jobs and lifecycle.holds_lease(self._jobs[job_id], attempt_id)

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        with self._lock:
            self._notifier.tell_of(jobs, self.now)
            told = events or [None] * len(jobs)
            return [self._save(job, event) for job, event in zip(jobs, told, strict=True)]

    def _save(self, job: Job, event: Event | None) -> Saved:
        stored = self._jobs.get(job.id)
        if stored is None or stored.version != job.version:
            return Saved("stale")
        fixed = {"spec": stored.spec, "number": stored.number, "created_at": stored.created_at}
        changed = replace(job, **fixed)
        if self._holder(changed):
            return Saved("duplicate")
        self._write(event)
        return Saved("accepted", self._store(changed))

    def expired_leases(self, limit: int) -> list[Job]:
        with self._lock:
            now = self.now()
            held = [(job.lease.until, job.number, job) for job in self._jobs.values() if job.lease]
            return [job for until, _, job in sorted(held) if until <= now][:limit]

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        with self._lock:
            attempts: set[tuple[str, str]] = {(x.job_id, x.attempt_id) for x in chunks}
            attempts |= {(x.job_id, x.attempt_id) for x in trims}
            refused = {
                attempt_id for job_id, attempt_id in attempts if not self._may_write(job_id, attempt_id)
            }
            for chunk in chunks:
                if chunk.attempt_id not in refused:
                    self._output.setdefault(chunk.attempt_id, {}).setdefault(chunk.n, chunk)
            for trim in trims:
                if trim.attempt_id not in refused:
                    kept = self._output.get(trim.attempt_id, {})
                    for n in [n for n in kept if trim.after < n < trim.before]:
                        del kept[n]
            self._notifier.tell(topics.OUTPUT)
            return refused

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        with self._lock:
            kept = self._output.get(attempt_id, {})
            return [kept[n] for n in sorted(kept) if n > after][:limit]

    def heartbeat(self, worker: Worker) -> Instruction | None:
        with self._lock:
            asked = still_instructed(self._asked.pop(worker.id, None), self._workers.get(worker.id), worker)
            self._workers[worker.id] = replace(worker, heartbeat=self.now())
            if asked:
                self._asked[worker.id] = asked
            return asked

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        with self._lock:
            return self._asked.get(worker_id)

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        with self._lock:
            self._notifier.tell(topics.WORK)
            known = worker_id in self._workers
            if known:
                self._asked[worker_id] = instruction
            return known

    def workers(self) -> list[Worker]:
        with self._lock:
            return sorted(self._workers.values(), key=lambda worker: (worker.started_at, worker.id))

    def forget(self, worker_id: str) -> None:
        with self._lock:
            self._workers.pop(worker_id, None)
            self._asked.pop(worker_id, None)
            self._notifier.tell(topics.ENDS)

    def read_table(self, table: Table, keys: Sequence[str] | None = None) -> dict[str, Entry]:
        with self._lock:
            entries = self._shared[table]
            return dict(entries) if keys is None else {key: entries[key] for key in keys if key in entries}

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        with self._lock:
            self._notifier.tell(topics.WORK)
            return [self._swap(each) for each in swaps]

    def _swap(self, swap: Swap) -> bool:
        entries, name = self._shared[swap.table], (swap.table, swap.key)
        if entries.get(swap.key, Entry({}, 0)).version != swap.version:
            return False
        entries.pop(swap.key, None)
        self._due.pop(name, None)
        if swap.value is not None:
            entries[swap.key] = Entry(swap.value, swap.version + 1)
        if swap.due is not None:
            self._due[name] = swap.due
        self.add(swap.adding, swap.telling)
        return True

    def upcoming(self, limit: int) -> list[Upcoming]:
        with self._lock:
            soonest = sorted(self._due.items(), key=lambda item: item[1])[:limit]
            return [Upcoming(*name, self._shared[name[0]][name[1]], due) for name, due in soonest]

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        with self._lock:
            ended = [j for j in self._matching(wanted) if j.ended and j.finished_at is not None]
            gone = sorted(ended, key=lambda job: (job.finished_at, job.number))[:limit]
            for job in gone:
                del self._jobs[job.id]
                self._write(deleted(job, tell) if tell else None)
                for attempt_id in [a for a, kept in self._output.items() if _of(job, kept)]:
                    del self._output[attempt_id]
            self._notifier.tell(topics.CHANGES)
            return [job.id for job in gone]

    def set_aside(self, *, expired: bool) -> list[Unreadable]:  # noqa: ARG002
        return []  # no job is unreadable here, because jobs are not encoded

    def discard(self, numbers: Sequence[int]) -> list[int]:  # noqa: ARG002
        return []

    def read_events(self, after: str | None, limit: int) -> EventPage:
        with self._lock:
            last = self._trimmed + len(self._events)
            start = self._trimmed if after is None else parse_event_cursor(after)[0]
            gap = not self._trimmed <= start <= last
            start = self._trimmed if gap else start
            found = self._events[start - self._trimmed :][:limit]
            events = [(str(start + n), event) for n, event in enumerate(found, 1)]
            return EventPage(events, str(start + len(found)), gap)

    def event_cursor(self, at: datetime | None) -> str:
        with self._lock:
            older = self._events if at is None else [event for event in self._events if event.at < at]
            return str(self._trimmed + len(older))

    def trim_events(self, before: datetime, keep: int, limit: int) -> int:
        with self._lock:
            beyond = len(self._events) - keep
            old = [event for n, event in enumerate(self._events[:limit]) if event.at < before or n < beyond]
            del self._events[: len(old)]
            self._trimmed += len(old)
            return len(old)

    def subscribe(self, wanted: Iterable[Topic]) -> Subscription:
        return self._notifier.subscribe(wanted)

    def background_fault(self) -> str | None:
        return None

    def describe(self, *, thorough: bool = False) -> Description:  # noqa: ARG002
        with self._lock:
            details = {"jobs": str(len(self._jobs)), "workers": str(len(self._workers))}
        return Description(url="memory:", durability="memory-safe", schema=0, details=details)

    def migrate(self) -> None:
        pass

    def close(self) -> None:
        pass


class EmptyStore(MemoryStore):
    """An empty store in place of a store that does not exist yet.

    Commands that only read use it; writes are refused.
    """

    def __init__(self, description: Description) -> None:
        super().__init__()
        self._description = description

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:  # noqa: ARG002
        raise self._absence()

    def heartbeat(self, worker: Worker) -> Instruction | None:  # noqa: ARG002
        raise self._absence()

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:  # noqa: ARG002
        raise self._absence()

    def describe(self, *, thorough: bool = False) -> Description:  # noqa: ARG002
        return self._description

    def _absence(self) -> StoreAbsent:
        return StoreAbsent(f"there is no store yet: {self._description.url}", "queuectl doctor --create")


def _of(job: Job, kept: dict[int, Chunk]) -> bool:
    return any(chunk.job_id == job.id for chunk in kept.values())
