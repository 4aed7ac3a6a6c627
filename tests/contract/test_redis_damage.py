"""What hands can do to a queue in Redis: whatever is left of it is put right, from what the jobs themselves say."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from contract.grounds import RedisGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job
from facts import eventually
from queuectl.domain.job import Parent
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.store.redis import RedisStore, caretaker, repair
from servers.redis import GivenRedis, RedisServer

READ: dict[bytes, tuple[Any, ...]] = {
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
}
NOBODY = "9999999999999999"


class Queue:
    """A queue with a job of each kind, and how all that was kept of it looked."""

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
        self.store.caretaker.stop()
        self.before = self.look()

    def call(self, verb: str, key: str, *words: Any) -> Any:
        """What the server answers to a word about one of the queue's keys."""
        return self.server.call(verb, f"{self.ground.tag}:{key}", *words)

    def names(self) -> list[str]:
        """What follows the tag in the names of all keys that follow from the jobs."""
        found = self.server.call("KEYS", f"{self.ground.tag}:*")
        names = [key.decode().removeprefix(f"{self.ground.tag}:") for key in found]
        return sorted(name for name in names if name.partition(":")[0] in (*repair.INDEXES, "counts"))

    def look(self) -> dict[str, Any]:
        """All that is kept about jobs."""
        return {name: self._content(name) for name in self.names()}

    def heal(self, *, really: bool = True) -> dict[str, int]:
        """How much of each kind was wrong."""
        return dict(
            self.store.session.write(lambda line: repair.heal(line, self.store.moment, really=really).found)
        )

    def _content(self, name: str) -> Any:
        kind = self.call("TYPE", name)
        verb, *words = READ[kind]
        found = self.call(verb, name, *words)
        return set(found) if kind == b"set" else dict(zip(found[::2], found[1::2], strict=True))


@pytest.fixture
def queue(redis_server: RedisServer | GivenRedis) -> Iterator[Queue]:
    queue = Queue(redis_server)
    with closing(queue.ground):
        yield queue


def test_where_all_is_well_nothing_is_found(queue: Queue) -> None:
    assert queue.heal(really=False) == {}
    assert queue.heal() == {}
    assert queue.look() == queue.before


def test_an_index_that_is_gone_is_made_anew(queue: Queue) -> None:
    for name in queue.names():
        if name.startswith("output:"):  # this is no index: there is no second copy of it
            continue
        queue.call("DEL", name)
        assert queue.heal(really=False), name
        assert queue.look() != queue.before, "only counted"
        assert queue.heal(), name
        assert queue.look() == queue.before, name
        assert queue.heal(really=False) == {}


def test_what_is_missing_in_an_index_is_entered(queue: Queue) -> None:
    for name, content in queue.before.items():
        for member in () if name.startswith("output:") else content:
            _take_out(queue, name, member)
            assert queue.heal(), (name, member)
            assert queue.look() == queue.before, (name, member)


def _take_out(queue: Queue, name: str, member: bytes) -> None:
    verb = {b"zset": "ZREM", b"hash": "HDEL", b"set": "SREM"}[queue.call("TYPE", name)]
    assert queue.call(verb, name, member) == 1


def test_what_does_not_belong_in_an_index_is_taken_out(queue: Queue) -> None:
    for name in queue.names():
        if name.startswith("output:"):
            continue
        if queue.call("TYPE", name) == b"zset":
            queue.call("ZADD", name, 1, NOBODY)
        elif queue.call("TYPE", name) == b"hash":
            queue.call("HSET", name, "nobody", NOBODY)
        else:
            queue.call("SADD", name, NOBODY)
        assert queue.heal(really=False), name
        assert queue.heal(), name
        assert queue.look() == queue.before, name


def test_an_index_of_nothing_is_taken_away(queue: Queue) -> None:
    queue.call("ZADD", "ready:ghosts", 1, NOBODY)
    queue.call("ZADD", "lines", 1, f"{NOBODY} ghosts")
    queue.call("HSET", "heads", "ghosts", f"{NOBODY} ghosts")
    queue.call("ZADD", f"output:{'f' * 32}", 1, b"0000000000000001 nobody rest")
    queue.call("SADD", f"outputs:{NOBODY}", "f" * 32)
    queue.call("SADD", "waits:nobody", NOBODY)
    assert queue.heal()
    assert queue.look() == queue.before


def test_a_job_in_the_wrong_state_index_is_put_where_it_says_it_is(queue: Queue) -> None:
    number = queue.call("HGET", "ids", "due").decode()
    queue.call("HSET", f"job:{number}", "state", "held")
    assert queue.heal()
    assert [job.id for job in queue.store.find(Filter(states=frozenset({"held"})), Page()).jobs] == [
        "due",
        "held",
    ]
    assert queue.store.claim("w1", ["default"], 9, LEASE) == []
    assert queue.heal() == {}


def test_scores_follow_the_jobs(queue: Queue) -> None:
    number = queue.call("HGET", "ids", "due").decode()
    for name in ("updated", "next", "ready:default"):
        queue.call("ZADD", name, 1, number)
    assert queue.heal()
    assert queue.look() == queue.before


def test_output_that_no_job_names_is_given_back(queue: Queue) -> None:
    number = queue.call("HGET", "ids", "runs").decode()
    queue.call("DEL", f"outputs:{number}")
    assert queue.heal()
    assert [chunk.data for chunk in queue.store.read_output(queue.attempt_id, 0)] == [b"printed"]


UNREADABLE: dict[str, Callable[[Queue, str], Any]] = {
    "no state": lambda queue, job: queue.call("HDEL", job, "state"),
    "no queue": lambda queue, job: queue.call("HDEL", job, "queue"),
    "no version": lambda queue, job: queue.call("HDEL", job, "version"),
    "no number": lambda queue, job: queue.call("HSET", job, "sort_key", "soon"),
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_job_that_cannot_be_read_is_in_nobodys_way(queue: Queue, how: str) -> None:
    number = queue.call("HGET", "ids", "due").decode()
    queue.store.add([new_job("next")])
    UNREADABLE[how](queue, f"job:{number}")
    assert [job.id for job in queue.store.claim("w1", ["default"], 9, LEASE)] == ["next"]
    assert [each.id for each in queue.store.set_aside(expired=False)] == ["due"]
    assert set(queue.store.get(["due", "next"]).unreadable) == {"due"}
    found = queue.store.find(Filter(), Page())
    assert len(found.jobs) == len(queue.store.get(_ids(queue)))
    assert [each.id for each in found.unreadable] == ["due"]
    assert queue.heal(really=False)[repair.UNREADABLE] == 1
    queue.heal()
    assert "1 unreadable jobs" in queue.store.describe(thorough=True).faults
    assert [added.status for added in queue.store.add([new_job("due")])] == ["conflict"]
    assert queue.store.discard([int(number)]) == [int(number)]
    assert [added.status for added in queue.store.add([new_job("due")])] == ["added"]
    queue.heal()
    assert queue.heal(really=False) == {}


def _ids(queue: Queue) -> list[str]:
    return [id.decode() for id in queue.call("HKEYS", "ids")]


def test_doctor_counts_what_is_wrong_and_says_what_was_mended(queue: Queue) -> None:
    queue.call("DEL", "updated")
    faults = queue.store.describe(thorough=True).faults
    assert faults == ("9 jobs in the wrong place: workers mend them",)
    queue.store.caretaker = type(queue.store.caretaker)(queue.store.session, lambda: queue.store.moment)
    assert queue.store.caretaker.look() == {repair.MISPLACED: 9}
    said = queue.store.describe(thorough=True)
    assert said.faults == ()
    assert said.details["mended"] == f"9 jobs in the wrong place, at {NOW:%Y-%m-%dT%H:%M:%SZ}"


def test_one_of_all_workers_looks_and_again_when_something_may_be_lost(queue: Queue) -> None:
    queue.call("SET", "turn:repair", queue.call("GET", "history"))  # somebody has looked
    queue.call("DEL", "created")
    other: Any = queue.ground.open()
    other.heartbeat(worker("w2"))
    other.caretaker.stop()
    other.caretaker._thread.join()
    assert "created" not in queue.look()
    queue.call("SET", "turn:repair", "the history of another server")
    third: Any = queue.ground.open()
    third.heartbeat(worker("w3"))
    eventually(lambda: queue.look() == queue.before)
    eventually(lambda: 3_500_000 < queue.call("PTTL", "turn:repair") <= 3_600_000)


def test_who_looks_leaves_most_of_the_servers_time_to_others(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waits = [100.0], list[float]()
    keeper = caretaker.Caretaker(queue.store.session, lambda: "")
    monkeypatch.setattr(caretaker.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(keeper._ended, "wait", lambda seconds: waits.append(seconds))
    keeper._went_on = 99.0
    assert queue.store.session.write(keeper._rest)
    assert waits == [4.0]


def test_sums_are_counted_anew_while_jobs_change(queue: Queue) -> None:
    queue.store.add([new_job(f"more{n}") for n in range(20)])
    queue.call("HSET", "counts", "pending default", "999")
    other: Any = queue.ground.open()
    queue.store.session.write(lambda line: _recount_among_changes(line, other))
    counts = other.counts(Filter())
    jobs = other.find(Filter(), Page(limit=99)).jobs
    assert counts.total() == len(jobs)
    assert all(counts.of(state) == sum(job.state == state for job in jobs) for state in counts.states())
    assert queue.heal(really=False) == {}


def _recount_among_changes(line: Any, other: RedisStore) -> None:
    """After each piece a job is taken and another one comes and one goes."""
    reached, piece = repair.NOTHING, 0
    while answer := line.run("recount", "run", "1", reached, 3):
        reached = answer[0].decode()
        if not reached:
            assert answer[1] > 0
            return
        piece += 1
        other.claim("w1", (), 1, LEASE)
        other.add([new_job(f"new{piece}")])
        other.purge(Filter(), 1)


def test_who_has_left_an_index_since_it_was_read_is_no_damage(queue: Queue) -> None:
    number = queue.call("HGET", "ids", "completed").decode()
    index = "state:pending"
    assert queue.store.session.write(lambda line: line.run("mend_entries", "1", index, number)) == 0


def test_it_rests_after_each_script(queue: Queue) -> None:
    queue.store.add([new_job(f"more{n}") for n in range(350)])
    rests: list[None] = []
    scripts = [0]

    def heal(line: Any) -> None:
        run = line.run
        line.run = lambda *words: (scripts.__setitem__(0, scripts[0] + 1), run(*words))[1]
        repair.heal(line, queue.store.moment, goes_on=lambda: rests.append(None) is None)
        del line.run

    queue.store.session.write(heal)
    assert scripts[0] - 1 <= len(rests) <= scripts[0]  # the last one ends it


def test_a_delayed_job_without_its_queue_is_set_aside_by_the_claim(queue: Queue) -> None:
    [number] = queue.call("ZRANGE", "delayed", 0, -1)
    queue.call("HDEL", f"job:{number.decode()}", "queue")
    queue.call("ZADD", "delayed", 1, number)
    assert [job.id for job in queue.store.claim("w1", (), 9, LEASE)] == ["waits", "due"]
    assert [each.id for each in queue.store.set_aside(expired=True)] == ["delayed"]
    assert queue.call("ZRANGE", "delayed", 0, -1) == []
