"""A server whose memory is full refuses changes that need more memory, and accepts changes that end or free
something."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from contract.grounds import RedisGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor, between
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable
from queuectl.store.protocol import Added, AttemptRef, Entry, Swap
from queuectl.store.redis import RedisStore
from servers.redis import RedisServer

HINT = "raise maxmemory, or delete jobs: queuectl purge --older-than 1d"


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis and a Valkey."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


@pytest.fixture
def ground(server: RedisServer) -> Iterator[RedisGround]:
    ground = RedisGround(server)
    yield ground
    ground.close()


@pytest.fixture
def store(ground: RedisGround) -> RedisStore:
    """A handle on a queue: `a` is held by w1, `b` waits, `later` is delayed, and `z` has ended."""
    store = ground.open()
    store.add([in_state("completed", "z")])
    adding(store, "a")
    store.claim("w1", (), 1, LEASE)
    store.add([new_job("b")])
    store.add([new_job("later", run_at=NOW + timedelta(minutes=30), priority=1000)])
    store.heartbeat(worker("w1"))
    store.swap([Swap("queues", "q", {"paused": True}, 0)])
    return store  # type: ignore[return-value]


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """Fill the memory of the server."""
    server.call("CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        server.call("CONFIG", "SET", "maxmemory", 0)


def everything(ground: RedisGround) -> dict[bytes, bytes]:
    """All keys of the queue with their values, except the rests of the notifications, which expire."""
    keys = [key for key in ground.server.call("KEYS", f"{ground.tag}*") if b":rang:" not in key]
    return {key: ground.server.call("DUMP", key) for key in sorted(keys)}


def held(store: RedisStore) -> AttemptRef:
    return AttemptRef("a", store.get(["a"])["a"].attempt_id or "")


def adding(store: RedisStore, *ids: str) -> list[Added]:
    jobs = [new_job(id) for id in ids]
    return store.add(jobs, [between(None, job) for job in jobs])


def saving(store: RedisStore) -> Any:
    job = store.get(["a"])["a"]
    after = lifecycle.finish(job, report(now=NOW), now=NOW, random_number=0.5)
    return statuses(store.save([after], [between(job, after)]))


def saving_for_later(store: RedisStore) -> Any:
    job = store.get(["a"])["a"]
    return statuses(
        store.save([lifecycle.finish(job, report(now=NOW, exit_code=1), now=NOW, random_number=0.5)])
    )


def claiming_what_was_delayed(store: RedisStore) -> Any:
    store._given.step(hours=1)  # type: ignore[union-attr]
    return [job.id for job in store.claim("w1", (), 1, LEASE, tell=True)]


def writing_output(store: RedisStore) -> Any:
    return store.write_output([Chunk("a", held(store).attempt_id, 1, 0, NOW, 0, b"x" * 100)])


GROWS: dict[str, tuple[Callable[[RedisStore], Any], Any]] = {
    "add": (lambda store: [added.status for added in adding(store, "c", "d")], ["added"] * 2),
    "write_output": (writing_output, set()),
    "instruct": (lambda store: store.instruct("w1", "drain"), True),
    "swap with a job": (
        lambda store: store.swap(
            [Swap("schedules", "s", {}, 0, adding=(job := new_job("e"),), telling=(between(None, job),))]
        ),
        [True],
    ),
}
"""Changes that may be refused, and their answers if memory is free."""
GOES_ON: dict[str, tuple[Callable[[RedisStore], Any], Any]] = {
    "claim": (lambda store: [job.id for job in store.claim("w1", (), 1, LEASE, tell=True)], ["b"]),
    "renew": (lambda store: [job.id for job in store.renew("w1", [held(store)], LEASE)], ["a"]),
    "claim of what was delayed": (claiming_what_was_delayed, ["later"]),
    "save": (saving, ["accepted"]),
    "save of what is to be retried": (saving_for_later, ["accepted"]),
    "heartbeat": (lambda store: store.heartbeat(worker("w1")), None),
    "swap": (lambda store: store.swap([Swap("queues", "q", {"paused": False}, 1)]), [True]),
    "purge": (lambda store: store.purge(Filter(), 9, tell=Actor()), ["z"]),
    "trim of events": (lambda store: store.trim_events(NOW, 0, 9), 1),
    "forget": (lambda store: store.forget("w1"), None),
}
"""Changes that must succeed, so that a full server can free memory and running commands are kept; with answers."""
WHOLE = GROWS | GOES_ON


@pytest.mark.parametrize("verb", WHOLE)
def test_each_change_is_made_completely_or_not_at_all(
    ground: RedisGround, store: RedisStore, server: RedisServer, verb: str
) -> None:
    work, answer = WHOLE[verb]
    before = everything(ground)
    with full(server):
        said, hint = tried(lambda: work(store))
        after = everything(ground)
    if hint is None:
        assert said == answer
    else:
        assert (hint, after) == (HINT, before)
    assert store.describe(thorough=True).faults == ()


def tried(verb: Callable[[], Any]) -> tuple[Any, str | None]:
    """The answer, or the hint of a refusal."""
    try:
        return verb(), None
    except StoreUnavailable as error:
        return None, error.hint


@pytest.mark.parametrize("verb", ["add", "write_output"])
def test_changes_that_need_more_memory_are_refused_until_memory_is_free(
    ground: RedisGround, store: RedisStore, server: RedisServer, verb: str
) -> None:
    work, answer = GROWS[verb]
    before = everything(ground)
    with full(server), pytest.raises(StoreUnavailable) as caught:
        work(store)
    assert caught.value.hint == HINT
    assert everything(ground) == before
    assert work(store) == answer


@pytest.mark.parametrize("verb", GOES_ON)
def test_changes_that_end_or_free_something_succeed(
    store: RedisStore, server: RedisServer, verb: str
) -> None:
    work, answer = GOES_ON[verb]
    with full(server):
        assert work(store) == answer
    assert store.describe(thorough=True).faults == ()


def test_everything_can_be_read(store: RedisStore, server: RedisServer) -> None:
    with full(server):
        assert set(store.get(["a", "b", "later", "z"])) == {"a", "b", "later", "z"}
        assert store.counts(Filter()).total() == 4
        assert store.read_table("queues") == {"q": Entry({"paused": True}, 1)}
        assert [entry.id for entry in store.workers()] == ["w1"]
        [fault] = store.describe().faults
    assert fault.endswith("% of maxmemory is used: raise it, or delete jobs: queuectl purge --older-than 1d")


def test_a_new_connection_can_read_the_jobs(
    ground: RedisGround, store: RedisStore, server: RedisServer
) -> None:
    with full(server), closing(RedisStore(ground.url)) as later:
        assert later.counts(Filter()).total() == 4


def test_a_refused_new_queue_is_empty(server: RedisServer) -> None:
    ground = RedisGround(server)
    with closing(RedisStore(ground.url)) as store:
        with full(server), pytest.raises(StoreUnavailable) as caught:
            store.add([new_job("a")])
        assert caught.value.hint == HINT
        assert store.counts(Filter()).total() == 0
        assert store.add([new_job("a")])[0].status == "added"
    ground.close()
