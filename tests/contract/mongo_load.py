"""Clients that add jobs, run them and read events while their server fails, and checks of the final state."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from factories import new_job, report
from queuectl.domain import lifecycle, topics
from queuectl.domain.event import Event, between
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service import worker_status
from queuectl.store.protocol import Store

LONG = timedelta(minutes=10)
"""A lease that does not run out while the test runs: no job may be claimed a second time."""

AHEAD = 50
"""So many jobs may wait before no more are added."""


class Load:
    """`connect` opens a handle for each client. All clients continue until their work is done, and repeat failed
    calls."""

    def __init__(
        self, connect: Callable[[], Store], *, adders: int = 2, workers: int = 3, readers: int = 2
    ) -> None:
        self._connect = connect
        self._over, self._added_all = threading.Event(), threading.Event()
        self.added: set[str] = set()
        self.done: list[str] = []
        self.told: dict[str, list[tuple[str, Event]]] = {}
        """The events that each reader has read, with their cursors."""
        self.failures: list[type[BaseException]] = []
        self.errors: list[BaseException] = []
        names = [("adder", n, self._add) for n in range(adders)] + [
            ("worker", n, self._work) for n in range(workers)
        ]
        names += [("reader", n, self._read) for n in range(readers)]
        self._threads = [
            threading.Thread(target=self._run, args=(work, f"{name}{n}"), daemon=True)
            for name, n, work in names
        ]
        self._adders = self._threads[:adders]
        for thread in self._threads:
            thread.start()

    def go_on(self, until: int) -> None:
        """Back when so many jobs more have been done."""
        wanted, deadline = len(self.done) + until, time.monotonic() + 60
        while len(self.done) < wanted and not self.errors:
            assert time.monotonic() < deadline, f"{len(self.done)} done and no more"
            threading.Event().wait(0.01)

    def end(self) -> None:
        """Let them add no more, and do what there is."""
        self._over.set()
        for thread in self._adders:
            thread.join(60)
        self._added_all.set()
        for thread in self._threads:
            thread.join(60)
        if self.errors:
            raise self.errors[0]
        assert not any(thread.is_alive() for thread in self._threads)

    def check(self, store: Store) -> None:
        """Check that no acknowledged job is lost, that no job ran twice, that the counts are right, and that each
        reader has read each event once.
        """
        assert sorted(self.done) == sorted(self.added)
        jobs = {job.id: job for page in _pages(store) for job in page}
        assert jobs.keys() == self.added
        assert {(job.state, job.attempts, len(job.history)) for job in jobs.values()} == {("completed", 1, 1)}
        assert store.counts(Filter()).states() == {"completed": len(self.added)}
        assert store.describe(thorough=True).faults == ()
        for read in self.told.values():
            assert [cursor for cursor, _ in read] == [str(n) for n in range(1, 3 * len(jobs) + 1)]
            kinds = dict[str, list[str]]()
            for _, event in read:
                kinds.setdefault(event.job, []).append(event.event)
            assert kinds.keys() == jobs.keys()
            for some in kinds.values():
                assert some == ["job.enqueued", "job.started", "job.completed"]

    def _run(self, work: Callable[[Store, str], None], name: str) -> None:
        store = self._connect()
        try:
            work(store, name)
        except BaseException as error:
            self.errors.append(error)
        finally:
            store.close()

    def _again(self, verb: Callable[[], Any]) -> Any:
        """Repeat a call until it is answered."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return verb()
            except (OutcomeUnknown, StoreUnavailable) as error:
                self.failures.append(type(error))
                if time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.02)

    def _add(self, store: Store, name: str) -> None:
        batch = 0
        while not self._over.is_set():
            if len(self.added) > len(self.done) + AHEAD:
                threading.Event().wait(0.01)
                continue
            batch += 1
            now = self._again(store.now)
            jobs = [new_job(f"{name}-{batch}-{n}", now=now) for n in range(4)]
            answers = self._again(lambda jobs=jobs: store.add(jobs, [between(None, job) for job in jobs]))
            assert {answer.status for answer in answers} <= {"added", "existing"}
            self.added |= {job.id for job in jobs}

    def _work(self, store: Store, name: str) -> None:
        news = store.subscribe(topics.WORK)
        while True:
            last = self._added_all.is_set()
            try:
                taken = store.claim(name, (), 5, LONG, tell=True)
            except (OutcomeUnknown, StoreUnavailable) as error:
                self.failures.append(type(error))
                taken = self._again(lambda: worker_status.claimed_by(store, name))
            if taken:
                self._finish(store, taken)
            elif last:
                return
            else:
                self._again(lambda: news.wait(0.05))

    def _finish(self, store: Store, taken: list[Job]) -> None:
        now = self._again(store.now)
        ended = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in taken]
        events = [between(*pair) for pair in zip(taken, ended, strict=True)]
        answers = self._again(lambda: store.save(ended, events))
        stored = self._again(lambda: store.get([job.id for job in ended]))
        for job, answer in zip(ended, answers, strict=True):
            # A stale job was stored by a call whose answer was lost: no other client may have changed the job.
            assert answer.status == "accepted" or stored[job.id].history == job.history, (
                answer,
                stored[job.id],
            )
            self.done.append(job.id)

    def _read(self, store: Store, name: str) -> None:
        read, after = self.told.setdefault(name, []), "0"
        while True:
            finished = self._added_all.is_set() and len(self.done) == len(self.added)
            page = self._again(lambda after=after: store.read_events(after, 20))
            assert not page.gap, (after, page)
            read += page.events
            after = page.next
            if finished and not page.events:
                return
            threading.Event().wait(0.01)


def _pages(store: Store) -> Any:
    page = Page(limit=1000)
    while True:
        found = store.find(Filter(), page)
        yield found.jobs
        if found.next is None:
            return
        page = Page(limit=1000, after=found.next)
