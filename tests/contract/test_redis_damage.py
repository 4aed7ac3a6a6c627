"""Damage by hand to a queue in Redis: which damage is detected, and which does not stop other jobs."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from circles import its_turn
from contract import redis_integrity
from contract.grounds import RedisGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job
from queuectl.domain.job import Parent
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.store.redis import RedisStore
from servers.redis import GivenRedis, RedisServer

NOBODY = "9999999999999999"
TAKE_OUT = {b"zset": "ZREM", b"hash": "HDEL", b"set": "SREM"}
PUT_IN = {b"zset": ("ZADD", 1, NOBODY), b"hash": ("HSET", "nobody", NOBODY), b"set": ("SADD", NOBODY)}


class Queue:
    """A queue with a job of each kind."""

    def __init__(self, server: RedisServer | GivenRedis) -> None:
        self.ground = RedisGround(server)
        self.server = server
        store: Any = self.ground.open()
        self.store: RedisStore = store
        everything = {"tags": ("red", "big"), "batch": "b"}
        for state in ("held", "completed", "dead", "cancelled"):
            self.store.add([in_state(state, state, unique_key=f"key-{state}", **everything)])
        self.store.add([new_job("runs", unique_key="k", queue="other"), new_job("waits", queue="other")])
        self.store.add([new_job("delayed", run_at=NOW + timedelta(days=1)), new_job("due", **everything)])
        self.store.add([new_job("blocked", after=(Parent("runs"), Parent("due")))])
        (running,) = self.store.claim("w1", ["other"], 1, LEASE)
        assert running.lease is not None
        self.attempt_id = running.lease.attempt_id
        self.store.write_output([Chunk("runs", self.attempt_id, 1, 0, NOW, 0, b"printed")])
        self.store.heartbeat(worker("w1"))

    def call(self, verb: str, key: str, *words: Any) -> Any:
        """The answer of the server to a command on one of the queue's keys."""
        return self.server.call(verb, f"{self.ground.tag}:{key}", *words)

    def indexes(self) -> dict[str, Any]:
        """All indexes that follow from the jobs."""
        return redis_integrity.Keys(self.server.call, self.ground.tag).indexes()

    def faults(self) -> dict[str, int]:
        """Where an index does not agree with the jobs."""
        return redis_integrity.faults(self.server.call, self.ground.tag)


@pytest.fixture
def queue(redis_server: RedisServer | GivenRedis) -> Iterator[Queue]:
    queue = Queue(redis_server)
    with closing(queue.ground):
        yield queue


class TestIntegrityCheck:
    """Other tests rely on `redis_integrity.faults`: it finds each missing entry and each foreign entry."""

    def test_the_check_finds_no_fault_in_a_correct_queue(self, queue: Queue) -> None:
        assert queue.faults() == {}

    def test_the_check_finds_each_missing_entry(self, queue: Queue, thorough: bool) -> None:
        """`make test` removes the entries of a third of the indexes each day."""
        for n, (name, content) in enumerate(queue.indexes().items()):
            if not (thorough or its_turn(n, 3)):
                continue
            for member, value in content.items():
                kind = queue.call("TYPE", name)
                assert queue.call(TAKE_OUT[kind], name, member) == 1
                assert queue.faults(), (name, member)
                _put_back(queue, kind, name, member, value)
        assert queue.faults() == {}

    def test_the_check_finds_each_foreign_entry(self, queue: Queue) -> None:
        for name in queue.indexes():
            kind = queue.call("TYPE", name)
            verb, *words = PUT_IN[kind]
            queue.call(verb, name, *words)
            assert queue.faults(), name
            queue.call(TAKE_OUT[kind], name, "nobody" if kind == b"hash" else NOBODY)
        assert queue.faults() == {}

    def test_the_check_finds_a_job_in_the_index_of_another_state(self, queue: Queue) -> None:
        number = queue.call("HGET", "ids", "due").decode()
        queue.call("HSET", f"job:{number}", "state", "held")
        assert {"state:held", "state:pending", "counts"} <= queue.faults().keys()


def _put_back(queue: Queue, kind: bytes, name: str, member: str, value: str) -> None:
    words = {b"zset": ("ZADD", value, member), b"hash": ("HSET", member, value), b"set": ("SADD", member)}
    verb, *rest = words[kind]
    queue.call(verb, name, *rest)


def test_doctor_finds_indexes_that_do_not_agree(queue: Queue) -> None:
    assert queue.store.describe(thorough=True).faults == ()
    queue.call("DEL", "updated")
    queue.call("HDEL", "heads", "default")
    queue.call("HSET", "counts", "pending default", "9")
    by_hand = "keys were changed by hand; restore a backup"
    assert queue.store.describe(thorough=True).faults == (
        f"the index updated has 0 entries, not 9: {by_hand}",
        f"the index counts of pending has 10 entries, not 3: {by_hand}",
        f"the index ready and delayed has 2 entries, not 3: {by_hand}",
    )


UNREADABLE: dict[str, Callable[[Queue, str], Any]] = {
    "no state": lambda queue, job: queue.call("HDEL", job, "state"),
    "no queue": lambda queue, job: queue.call("HDEL", job, "queue"),
    "no version": lambda queue, job: queue.call("HDEL", job, "version"),
    "no number": lambda queue, job: queue.call("HSET", job, "sort_key", "soon"),
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_an_unreadable_job_does_not_stop_other_jobs(queue: Queue, how: str) -> None:
    number = queue.call("HGET", "ids", "due").decode()
    queue.store.add([new_job("next")])
    UNREADABLE[how](queue, f"job:{number}")
    assert [job.id for job in queue.store.claim("w1", ["default"], 9, LEASE)] == ["next"]
    assert [each.id for each in queue.store.set_aside(expired=False)] == ["due"]
    assert set(queue.store.get(["due", "next"]).unreadable) == {"due"}
    found = queue.store.find(Filter(), Page())
    assert len(found.jobs) == len(queue.store.get(_ids(queue)))
    assert [each.id for each in found.unreadable] == ["due"]
    assert [added.status for added in queue.store.add([new_job("due")])] == ["conflict"]
    assert queue.store.discard([int(number)]) == [int(number)]
    assert [added.status for added in queue.store.add([new_job("due")])] == ["added"]


def _ids(queue: Queue) -> list[str]:
    return [id.decode() for id in queue.call("HKEYS", "ids")]


def test_a_delayed_job_without_its_queue_is_set_aside_by_the_claim(queue: Queue) -> None:
    [number] = queue.call("ZRANGE", "delayed", 0, -1)
    queue.call("HDEL", f"job:{number.decode()}", "queue")
    queue.call("ZADD", "delayed", 1, number)
    assert [job.id for job in queue.store.claim("w1", (), 9, LEASE)] == ["waits", "due"]
    assert [each.id for each in queue.store.set_aside(expired=True)] == ["delayed"]
    assert queue.call("ZRANGE", "delayed", 0, -1) == []
