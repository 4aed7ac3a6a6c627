"""Many concurrent processes on one store: they add, claim, renew, end, cancel and retry jobs.

`python -m contract.racers URL FOLDER RACERS SHARE` forks them, and ends when every job has; its exit code counts those
that failed.
Every process writes into a file of FOLDER what it was given: a line for each attempt, with the moments between which it
certainly held it. What each job is in for follows from its number, so that in the end it is known how it must have
ended.
"""

import os
import random
import sys
import time
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, json

from factories import new_job, report
from queuectl.bootstrap import open_store
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import Job
from queuectl.domain.outcome import Report
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.domain.worker import Worker
from queuectl.service import commands, enqueueing
from queuectl.store.protocol import AttemptRef, Store


class Size(NamedTuple):
    """The number of processes, and the number of jobs that each of them adds."""

    racers: int
    share: int

    @property
    def jobs(self) -> int:
        """The number of jobs that all processes add."""
        return self.racers * self.share

    def ids(self, racer: int) -> list[str]:
        """The ids of the jobs that a process adds."""
        first = racer % self.racers * self.share
        return [f"job-{number}" for number in range(first, first + self.share)]


LATER = 20
"""Jobs beside these whose time does not come."""

LIMITED, LIMIT = "limited", 4
LEASE = timedelta(minutes=10)
"""The lease does not expire during the race: no job may have a second attempt."""

SLOWEST = 120.0
"""Seconds after which something must have been lost."""


class Claimed(Struct, frozen=True):
    """An attempt, as the process saw it that was given it. `since` and `until` are on the clock that all share."""

    job: str
    attempt: int
    attempt_id: str
    queue: str
    since: int
    until: int


class Cancelled(Struct, frozen=True):
    """The result of a request to cancel."""

    job: str
    refused: bool


def fate(id: str) -> str:
    """The planned course of a job."""
    fates = {
        1: "fails once",
        3: "dies, is retried",
        5: "is cancelled",
        7: "dies",
        9: "is cancelled, is retried",
    }
    return fates.get(_number(id) % 20, "succeeds")


def prints(id: str) -> bool:
    """Whether the job prints something."""
    return _number(id) % 50 == 2


def queue_of(number: int) -> str:
    """Where the job with this number waits."""
    return LIMITED if number % 20 == 0 else ("a", "b", "c")[number % 3]


def _number(id: str) -> int:
    return int(id.rpartition("-")[2])


class Racer:
    """One process: everything that it does, in turns that chance decides."""

    def __init__(self, store: Store, number: int, size: Size) -> None:
        self._store, self._number, self._random_number = store, number, random.Random(number)
        self._work_news = store.subscribe(topics.WORK)
        self._jobs = size.jobs
        self._name = f"racer-{number}"
        self._adds = size.ids(number)
        self._cancels = [id for id in size.ids(number + 1) if "cancelled" in fate(id)]
        # Two processes each, so that they get into each other's way.
        self._retries = {id for n in (1, 2) for id in size.ids(number + n) if "retried" in fate(id)}
        self.claimed: list[Claimed] = []
        self.cancelled: list[Cancelled] = []

    def race(self) -> None:
        """Work until no job is left."""
        self._store.heartbeat(self._entry())
        deadline = time.monotonic() + SLOWEST
        while not self._over():
            assert time.monotonic() < deadline, f"not over: {self._store.counts(Filter()).states()}"
            self._add()
            if self._random_number.random() < 0.3 or not self._adds:
                self._cancel()
                self._retry()
            if not self._work():
                self._work_news.wait(0.1)
        self._store.forget(self._name)

    def _over(self) -> bool:
        if self._adds or self._cancels or self._retries:
            return False
        states = self._store.counts(Filter()).states()
        ended = sum(states.get(state, 0) for state in ("completed", "dead", "cancelled"))
        return ended == self._jobs and self._store.describe().details.get("to_archive", "0") == "0"

    def _entry(self) -> Worker:
        return Worker(
            id=self._name, name=self._name, host="here", boot_id="boot", holder_pid=os.getpid(),
            agent_pid=os.getpid(), version="1", count=1, started_at=self._store.now(),
        )  # fmt: skip

    def _add(self) -> None:
        """Some of our share, now and then twice."""
        now, count = self._store.now(), self._random_number.randint(5, 40)
        jobs = [
            new_job(id, now=now, queue=queue_of(_number(id)), max_retries=int(fate(id) == "fails once"),
                    factor=timedelta(0))
            for id in self._adds[:count]
        ]  # fmt: skip
        for existing in (False, True)[: 1 + (self._random_number.random() < 0.2)]:
            answers = enqueueing.enqueue(self._store, jobs)
            assert {(answer.existing, answer.refused) for answer in answers} <= {(existing, None)}, answers
        del self._adds[:count]

    def _cancel(self) -> None:
        """Jobs of other processes, in any state."""
        here = list(self._store.get(self._cancels[:10]))
        for change in commands.cancel(self._store, here, by=self._name) if here else ():
            self.cancelled.append(Cancelled(change.id, change.refused is not None))
        self._cancels = [id for id in self._cancels if id not in here]

    def _retry(self) -> None:
        """What has died, or was cancelled and is to run all the same."""
        jobs = self._store.get(sorted(self._retries))
        again = [job.id for job in jobs.values() if job.state in ("dead", "cancelled")]
        if again:
            commands.retry(self._store, again)
        self._retries -= {job.id for job in jobs.values() if job.state == "completed"}

    def _work(self) -> bool:
        taken = self._store.claim(self._name, (), self._random_number.randint(1, 10), LEASE)
        since = time.monotonic_ns()
        if taken and self._random_number.random() < 0.25:
            held = [AttemptRef(job.id, _attempt_id(job)) for job in taken]
            taken = self._store.renew(self._name, held, LEASE)
            assert len(taken) == len(held), "nobody else may have them"
        self._print(taken)
        self._finish(taken, since)
        return bool(taken)

    def _print(self, taken: list[Job]) -> None:
        chunks = [
            Chunk(job.id, _attempt_id(job), 1, 0, self._store.now(), 0, job.id.encode())
            for job in taken
            if prints(job.id)
        ]
        assert not self._store.write_output(chunks)

    def _finish(self, taken: list[Job], since: int) -> None:
        """Save how they ended. Only a request to cancel can have come in between; then they are read again."""
        while taken:
            until, now = time.monotonic_ns(), self._store.now()
            ended = [lifecycle.finish(job, _report(job, now), now=now, random_number=0.5) for job in taken]
            answers = dict(zip([job.id for job in taken], self._store.save(ended), strict=True))
            for job in taken:
                if answers[job.id].status == "accepted":
                    made = (job.id, job.attempts, _attempt_id(job), job.queue)
                    self.claimed.append(Claimed(*made, since, until))
            stale = {job.id: _attempt_id(job) for job in taken if answers[job.id].status != "accepted"}
            taken = list(self._store.get(list(stale)).values())
            assert all(lifecycle.holds_lease(job, stale[job.id]) for job in taken), "taken from us"
            assert len(taken) == len(stale)


def _attempt_id(job: Job) -> str:
    assert job.lease is not None
    return job.lease.attempt_id


def _report(job: Job, now: datetime) -> Report:
    if job.cancel_requested:
        return report("cancelled", now=now)
    first = not job.history
    fails = fate(job.id) == "dies" or (first and fate(job.id) in ("fails once", "dies, is retried"))
    return report(exit_code=int(fails), now=now)


def _run(url: str, folder: Path, number: int, size: Size) -> int:
    """A process, from its store to its notes; its exit code."""
    try:
        store = open_store(url, patience=60)
        racer = Racer(store, number, size)
        racer.race()
        store.close()
        (folder / f"claimed-{number}").write_bytes(json.encode(racer.claimed))
        (folder / f"cancelled-{number}").write_bytes(json.encode(racer.cancelled))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> int:
    """Fork the processes, and wait for all of them."""
    url, folder, size = sys.argv[1], Path(sys.argv[2]), Size(*map(int, sys.argv[3:]))
    open_store(url).close()  # imports what all of them need
    racers = []
    for number in range(size.racers):
        pid = os.fork()
        if pid == 0:
            os._exit(_run(url, folder, number, size))
        racers.append(pid)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in racers)


if __name__ == "__main__":
    sys.exit(main())
