"""Events in a stream of Redis: damage by hand, a clock that is set back, cursors without an event, the archive."""

from collections.abc import Iterator
from typing import Any

import pytest

from contract.archived import Between, move_all
from contract.grounds import RedisGround
from contract.test_events import add, claim, finished, read, save, told
from factories import LEASE, NOW, in_state, new_job
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor
from queuectl.domain.query import Filter
from queuectl.store.protocol import EventPage, Store
from queuectl.store.redis import events
from queuectl.store.redis_archive import ArchivedStore


@pytest.fixture
def ground(redis_server: Any) -> Iterator[RedisGround]:
    ground = RedisGround(redis_server)
    yield ground
    ground.close()


@pytest.fixture
def store(ground: RedisGround) -> Store:
    return ground.open()


def key(ground: RedisGround, name: str = "events") -> str:
    return f"{ground.tag}:{name}"


def test_the_times_do_not_fall_when_the_clock_is_set_back(ground: RedisGround, store: Store) -> None:
    add(store, new_job("a"))
    ground.clock.step(hours=-1)
    add(store, new_job("b"))
    ground.clock.step(hours=2)
    add(store, new_job("c"))
    times = [event.at for _, event in read(store)]
    assert times == [NOW, NOW, ground.clock.now()]
    assert [event.job for _, event in read(store, store.event_cursor(NOW))] == ["a", "b", "c"]


def test_a_cursor_beyond_the_end_has_a_gap(store: Store) -> None:
    add(store, new_job("a"), new_job("b"))
    page = store.read_events("9" * 15 + "-3", 10)
    assert ([event.job for _, event in page.events], page.gap) == (["a", "b"], True)


def test_a_cursor_of_a_missing_event_has_a_gap(ground: RedisGround, store: Store) -> None:
    add(store, new_job("a"), new_job("b"), new_job("c"))
    cursors = [cursor for cursor, _ in read(store)]
    ground.server.call("XDEL", key(ground), cursors[1])
    page = store.read_events(cursors[1], 10)
    assert ([event.job for _, event in page.events], page.gap) == (["c"], True)
    ground.server.call("XDEL", key(ground), cursors[2])
    assert store.read_events(cursors[2], 10) == EventPage([], cursors[0], gap=True)


def test_one_script_writes_many_events_of_one_millisecond(ground: RedisGround, store: Store) -> None:
    for _ in range(3):
        add(store, *(new_job() for _ in range(400)))
        ground.clock.step(seconds=1)
    for second in range(3):
        place = store.event_cursor(ground.clock.now() - (ground.clock.now() - NOW) * (3 - second) / 3)
        assert len(read(store, place)) == 1200 - 400 * second


def test_one_reply_has_a_thousand_events_at_most(store: Store) -> None:
    for _ in range(3):
        add(store, *(new_job() for _ in range(400)))
    assert len(store.read_events(None, 5000).events) == events.AT_ONCE
    assert store.trim_events(NOW, 0, 5000) == events.AT_ONCE


def test_entries_that_were_added_by_hand_are_omitted(ground: RedisGround, store: Store) -> None:
    add(store, new_job("a"))
    ground.server.call("XADD", key(ground), "*", "at", "x", "number", "1", "line", "{}")
    ground.server.call("XADD", key(ground), "*", "hello", "world")
    add(store, new_job("b"))
    assert told(store) == [("enqueued", "a"), ("enqueued", "b")]
    assert store.trim_events(NOW, 1, 10) == 3
    assert told(store) == [("enqueued", "b")]


def test_a_deleted_stream_begins_again(ground: RedisGround, store: Store) -> None:
    add(store, new_job("a"))
    [(cursor, _)] = read(store)
    ground.server.call("DEL", key(ground))
    assert store.read_events(cursor, 10) == EventPage([], "0-0", gap=True)
    add(store, new_job("b"))
    page = store.read_events(cursor, 10)
    assert ([event.job for _, event in page.events], page.gap) == (["b"], True)


def test_an_event_takes_little_memory(ground: RedisGround, store: Store) -> None:
    """`docs/redis.md` says how much."""
    for _ in range(10):
        jobs = add(store, *(new_job() for _ in range(100)))
        running = store.claim("some-host.example.com-4f1c", [], 100, LEASE, tell=True)
        assert len(running) == len(jobs)
        for job in running:
            save(store, job, finished(job))
    size = ground.server.call("MEMORY", "USAGE", key(ground), "SAMPLES", 0)
    assert size / 3000 < 260


def test_the_batch_of_a_claimed_job_is_in_its_event(store: Store) -> None:
    add(
        store,
        new_job("a", batch="b"),
        new_job("c", env={"batch": "no"}),
        new_job("d", command='echo "batch":"x"'),
    )
    end = store.event_cursor(None)
    claim(store, 3)
    assert [event.batch for _, event in read(store, end)] == ["b", None, None]


@pytest.fixture
def archived(between_ground: Between) -> ArchivedStore:
    store = between_ground.fresh()
    add(store, in_state("dead", "a", queue="q", batch="b"), in_state("completed", "z"))
    move_all(store)
    assert between_ground.here() == []
    return store


def test_a_job_that_is_restored_from_the_archive_tells_its_change(archived: ArchivedStore) -> None:
    [job] = archived.get(["a"]).values()
    end = archived.event_cursor(None)
    after = lifecycle.retry(job, now=NOW)
    assert [save(archived, job, after).status for _ in range(2)] == ["accepted", "stale"]
    [(_, event)] = read(archived, end)
    assert (event.event, event.job, event.number, event.batch) == ("job.retried", "a", job.number, "b")


def test_a_job_that_is_deleted_in_the_archive_tells_it(archived: ArchivedStore) -> None:
    [job] = archived.get(["a"]).values()
    end = archived.event_cursor(None)
    assert archived.purge(Filter(ids=("z",)), 9) == ["z"]
    assert archived.purge(Filter(ids=("a",)), 9, tell=Actor("me@host", "cli")) == ["a"]
    [(_, event)] = read(archived, end)
    assert (event.event, event.job, event.number, event.state) == ("job.deleted", "a", job.number, "dead")
    assert (event.queue, event.batch, event.by, event.via) == ("q", "b", "me@host", "cli")
