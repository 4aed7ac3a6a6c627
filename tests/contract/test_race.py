"""Ten processes work on a thousand jobs at once, and every job ends once and with the expected result.

`make proof` runs it again with fifty processes and ten thousand jobs.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec import json
from pymongo import MongoClient

from contract.racers import (
    LATER,
    LIMIT,
    LIMITED,
    SLOWEST,
    Cancelled,
    Claimed,
    Size,
    fate,
    prints,
    queue_of,
)
from factories import new_job
from queuectl.bootstrap import open_store
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueChange
from queuectl.service import commands, enqueueing, matching
from queuectl.store.protocol import Store
from servers.endpoint import Endpoint
from servers.redis import RedisEndpoint

pytestmark = pytest.mark.timeout(2 * SLOWEST + 30)
Line = TypeVar("Line")
SOURCES = Path(__file__).parents[1]
SIZES = [Size(10, 100), pytest.param(Size(50, 200), marks=pytest.mark.proof)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.racers} processes")


class Race:
    """The state after all processes have ended."""

    def __init__(self, url: str, folder: Path, size: Size) -> None:
        self._size = size
        with closing(open_store(url, patience=60)) as store:
            _prepare(store)
            _run(url, folder, size)
            self.jobs = {job.id: job for job in _all(store)}
            self.counts = store.counts(Filter()).queues
            self.faults = store.describe(thorough=True).faults
            self.workers = store.workers()
            self.ended = {job.id: job for job in self.jobs.values() if job.ended}
            self.printed = {id: _printed(store, job) for id, job in self.ended.items() if prints(id)}
        self.claimed = list(_notes(folder, size, "claimed", Claimed))
        self.cancelled = {note.job: note for note in _notes(folder, size, "cancelled", Cancelled)}

    def check(self) -> None:
        """Everything that must be true on every store."""
        self.nothing_is_lost()
        self.no_attempt_is_made_twice()
        self.the_limit_is_kept()
        self.each_ended_as_it_should()
        self.the_history_is_complete()
        self.the_books_are_right()

    def nothing_is_lost(self) -> None:
        assert len(self.jobs) == self._size.jobs + LATER
        assert set(self.ended) == {id for racer in range(self._size.racers) for id in self._size.ids(racer)}
        assert self.printed == {id: id.encode() for id in self.ended if prints(id)}

    def no_attempt_is_made_twice(self) -> None:
        assert _repeated(note.attempt_id for note in self.claimed) == []
        assert _repeated((note.job, note.attempt) for note in self.claimed) == []
        for attempts in _by(self.claimed, lambda note: note.job).values():
            assert _most_at_once(attempts) == 1, attempts

    def the_limit_is_kept(self) -> None:
        assert _most_at_once(note for note in self.claimed if note.queue == LIMITED) <= LIMIT

    def each_ended_as_it_should(self) -> None:
        wrong = {
            id: (fate(id), job.state, job.attempts) for id, job in self.ended.items() if not self._fits(job)
        }
        assert wrong == {}

    def _fits(self, job: Job) -> bool:
        refused = self.cancelled[job.id].refused if job.id in self.cancelled else None
        return {
            "succeeds": job.state == "completed" and job.attempts == 1,
            "fails once": job.state == "completed" and job.attempts == 2,
            "dies": job.state == "dead" and job.attempts == 1,
            "dies, is retried": job.state == "completed" and job.attempts == 2,
            "is cancelled": job.state == ("completed" if refused else "cancelled") and job.attempts <= 1,
            "is cancelled, is retried": job.state == "completed" and job.attempts in (1, 1 if refused else 2),
        }[fate(job.id)]

    def the_history_is_complete(self) -> None:
        told = [(job.id, past.attempt, past.attempt_id) for job in self.jobs.values() for past in job.history]
        assert sorted(told) == sorted((note.job, note.attempt, note.attempt_id) for note in self.claimed)
        assert all(len(job.history) == job.attempts for job in self.jobs.values())

    def the_books_are_right(self) -> None:
        assert self.counts == {
            queue: Counter(job.state for job in jobs)
            for queue, jobs in _by(self.jobs.values(), lambda job: job.queue).items()
        }
        assert all(job.queue == queue_of(int(id[4:])) for id, job in self.ended.items())
        assert self.faults == ()
        assert self.workers == []


@sizes
def test_every_job_ends_once_on_redis(redis_server: RedisEndpoint, tmp_path: Path, size: Size) -> None:
    name = f"race_{secrets.token_hex(6)}"
    try:
        Race(redis_server.url(name=name), tmp_path, size).check()
    finally:
        redis_server.delete(f"{{{name}}}")


@sizes
def test_every_job_ends_once_on_redis_with_an_archive(
    redis_server: RedisEndpoint, mongo_server: Endpoint, tmp_path: Path, size: Size
) -> None:
    """Each ended job is in the archive once, and Redis has only unfinished jobs."""
    name = f"race_{secrets.token_hex(6)}"
    archive = mongo_server.url(name)
    with MongoClient[dict[str, Any]](archive) as client:
        try:
            race = Race(redis_server.url(name=name, archive=archive), tmp_path, size)
            race.check()
            archived = [document["id"] for document in client[name]["jobs"].find({}, {"id": 1})]
            assert sorted(archived) == sorted(race.ended)
            assert _left(redis_server, name) == {"job": LATER}
        finally:
            redis_server.delete(f"{{{name}}}")
            client.drop_database(name)


def _prepare(store: Store) -> None:
    """A limit, and a few jobs that have time."""
    store.migrate()
    commands.change_queue(store, LIMITED, QueueChange(limit=LIMIT))
    now = store.now()
    later = [new_job(f"later-{n}", now=now, run_at=now + timedelta(days=1)) for n in range(LATER)]
    enqueueing.enqueue(store, later)


def _run(url: str, folder: Path, size: Size) -> None:
    command = [sys.executable, "-m", "contract.racers", url, str(folder), *map(str, size)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    racers = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, said = racers.communicate(timeout=2 * SLOWEST)
        assert racers.returncode == 0, said.decode()[:5000]  # the first to fall lets the others wait in vain
    finally:
        with suppress(ProcessLookupError):
            os.killpg(racers.pid, signal.SIGKILL)


def _all(store: Store) -> Iterator[Job]:
    for ids in matching.select(store, Filter()):
        yield from store.get(ids).values()


def _printed(store: Store, job: Job) -> bytes:
    return b"".join(chunk.data for chunk in store.read_output(job.history[-1].attempt_id, 0))


def _notes(folder: Path, size: Size, kind: str, line: type[Line]) -> Iterator[Line]:
    for racer in range(size.racers):
        yield from json.decode((folder / f"{kind}-{racer}").read_bytes(), type=list[line])  # type: ignore[valid-type]


def _by(lines: Iterable[Line], key: Callable[[Line], str]) -> dict[str, list[Line]]:
    found = defaultdict(list)
    for line in lines:
        found[key(line)].append(line)
    return found


def _repeated(values: Iterable[object]) -> list[object]:
    return [value for value, times in Counter(values).items() if times > 1]


def _most_at_once(notes: Iterable[Claimed]) -> int:
    """The most attempts that were certainly held at the same moment."""
    steps = sorted(step for note in notes for step in ((note.since, 1), (note.until, -1)))
    most = held = 0
    for _, step in steps:
        held += step
        most = max(most, held)
    return most


def _left(server: RedisEndpoint, name: str) -> Counter[str]:
    """The number of keys of one job, by kind."""
    keys = server.call("KEYS", f"{{{name}}}:*")
    kinds = [key.decode().split(":")[1] for key in keys]
    return Counter(kind for kind in kinds if kind in ("job", "output", "outputs", "waits", "by"))
