"""MongoDB publishes each event once, in dense order, also if a publisher dies or sleeps between any two requests.

No transaction protects a publisher, so an error in the algorithm (`store/mongo/publish.py`) shows here.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circles import turns
from contract.grounds import MongoGround, race
from contract.mongo_steps import Actor
from factories import LEASE, NOW, new_job, statuses
from queuectl.domain import event as events_of
from queuectl.domain import lifecycle
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnusable
from queuectl.store.mongo import ended_counts, events, publish, swap, write
from queuectl.store.protocol import Swap
from servers.mongo import GivenMongo, MongoServer

FAR = timedelta(days=9999)
SOMEBODY = events_of.Actor("me@host", "cli")


class Told:
    """A queue that notes which changes were accepted, and its log."""

    def __init__(self, ground: MongoGround) -> None:
        self.ground = ground
        self.store, self.base = ground.open(durability="fast"), ground.base
        self.store.migrate()
        self.changes = list[tuple[str, str]]()
        self.read = list[tuple[str, str]]()
        self.cursor = "0"

    def reset(self) -> None:
        """Begin again with an empty queue."""
        self.ground.empty()
        self.changes, self.read, self.cursor = [], [], "0"

    def add(self, *ids: str) -> None:
        jobs = [new_job(id) for id in ids]
        added = self.store.add(jobs, [events_of.between(None, job) for job in jobs])
        self.changes += [("enqueued", each.job.id) for each in added if each.status == "added"]

    def change(self, kind: str, make: Any, *ids: str) -> None:
        before = list(self.store.get(ids).values())
        after = [make(job) for job in before]
        told = [events_of.between(*pair) for pair in zip(before, after, strict=True)]
        assert not after or set(statuses(self.store.save(after, told))) == {"accepted"}
        self.changes += [(kind, job.id) for job, event in zip(after, told, strict=True) if event is not None]

    def toggle(self, id: str) -> None:
        """Hold a job, or release it."""
        for job in self.store.get([id]).values():
            if job.state == "held":
                self.change("released", lambda job: lifecycle.release(job, now=NOW), id)
            elif job.state == "pending":
                self.change("held", lambda job: lifecycle.hold(job, now=NOW), id)

    def cancel(self, *ids: str) -> None:
        there = [job.id for job in self.store.get(ids).values() if not job.ended]
        self.change("cancelled", lambda job: lifecycle.cancel(job, by="me", reason=None, now=NOW), *there)

    def purge(self, prefix: str = "") -> None:
        gone = self.store.purge(Filter(id_prefix=prefix or None), 99, tell=SOMEBODY)
        self.changes += [("deleted", id) for id in gone]

    def publisher(self) -> Actor:
        """A publisher that does one request at a time."""
        return Actor(self.base, publish.publish)

    def follow(self) -> None:
        """Read from where the last call ended, to the end."""
        while (page := self.store.read_events(self.cursor, 7)).events:
            assert not page.gap
            self.read += [(event.event.removeprefix("job."), event.job) for _, event in page.events]
            self.cursor = page.next

    def trim(self) -> None:
        """Read everything, and delete it."""
        self.follow()
        self.store.trim_events(NOW + FAR, 0, 10_000)

    def log(self) -> list[int]:
        """The numbers of the documents in the log that are not deleted."""
        first = (self.base["counters"].find_one({"_id": "events"}) or {})["first"]
        return [each["_id"] for each in self.base["events"].find({"_id": {"$gte": first}}).sort("_id", 1)]

    def check(self) -> None:
        """The log has no hole, and what was read has no event twice and none that did not happen."""
        numbers = self.log()
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        assert not Counter(self.read) - Counter(self.changes)

    def complete(self) -> None:
        """Each change was read once, those of one job in their order, and nothing is left behind."""
        self.follow()
        self.check()
        assert sorted(self.read) == sorted(self.changes)
        for id in {id for _, id in self.changes}:
            assert [each for each in self.read if each[1] == id] == [
                each for each in self.changes if each[1] == id
            ]
        left = {"$or": [{"events": {"$exists": True}}, {"unpublished": {"$exists": True}}]}
        assert self.base["jobs"].count_documents(left) == 0
        ended_counts.merge(self.base, at_least=1)
        assert self.base["jobs"].count_documents({"gone": True}) == 0


@pytest.fixture
def queue(mongo_ground: MongoGround) -> Told:
    return Told(mongo_ground)


def some_events(queue: Told) -> None:
    """Events of new, changed, claimed, ended and deleted jobs, of which some are published."""
    queue.add("old", "older")
    queue.follow()
    queue.add("a", "b", "c", "gone", "gone too")
    queue.toggle("a")
    queue.toggle("old")
    queue.cancel("gone", "gone too", "c")
    queue.purge("gone")
    [job] = queue.store.claim("w", [], 1, LEASE, tell=True)
    queue.changes.append(("started", job.id))


def steps_of_a_publisher(queue: Told) -> int:
    actor, count = queue.publisher(), 1
    while actor.step():
        count += 1
    return count


REQUESTS = [
    "counters.aggregate",
    "events.insert_many",
    "counters.update_one",
    "jobs.bulk_write",
    "counters.update_one",
]


def test_the_requests_are_those_of_the_description(queue: Told) -> None:
    queue.add("a", "b")
    actor, seen = queue.publisher(), list[str]()
    while actor.next is not None:
        seen.append(actor.next)
        actor.step()
    assert seen == REQUESTS
    queue.complete()


def test_a_publisher_with_nothing_to_publish_needs_one_request(queue: Told) -> None:
    actor = queue.publisher()
    assert actor.next == "counters.aggregate"
    assert not actor.step()


def test_a_publisher_that_dies_between_two_requests_publishes_each_event_once(queue: Told) -> None:
    some_events(queue)
    steps = steps_of_a_publisher(queue)
    assert steps > len(REQUESTS)
    for died_at in range(steps):
        queue.reset()
        some_events(queue)
        actor = queue.publisher()
        for _ in range(died_at):
            actor.step()
        actor.kill()
        queue.complete()


def test_a_publisher_that_dies_within_its_insert_publishes_each_event_once(queue: Told) -> None:
    queue.add(*(f"j{n}" for n in range(9)))
    queue.toggle("j3")
    queue.publisher().until("counters.update_one").kill()
    queue.base["events"].delete_many({"_id": {"$gt": 4}})  # as if the server had stopped within the insert
    queue.complete()


MEANWHILE = {
    "a publisher": lambda queue: queue.follow(),
    "a publisher and a trim": lambda queue: queue.trim(),
    "a change": lambda queue: (queue.toggle("a"), queue.toggle("b")),
    "a change, a publisher and a trim": lambda queue: (queue.toggle("a"), queue.add("new"), queue.trim()),
    "a trim, changes and a trim": lambda queue: (
        queue.trim(), queue.toggle("a"), queue.toggle("old"), queue.add("new", "newer"), queue.trim()
    ),
    "many others": lambda queue: (
        queue.trim(), queue.add(*(f"new{n}" for n in range(30))), queue.trim(), queue.toggle("a"), queue.follow()
    ),
    "a purge": lambda queue: (queue.cancel("a", "b", "old"), queue.purge()),
    "a purge, a publisher and a trim": lambda queue: (queue.cancel("a", "old"), queue.purge(), queue.trim()),
    "a dead publisher": lambda queue: queue.publisher().until("counters.update_one").kill(),
    "a trim and a dead publisher": lambda queue: (
        queue.trim(), queue.toggle("a"), queue.toggle("b"), queue.publisher().until("jobs.bulk_write").kill()
    ),
}  # fmt: skip


@pytest.mark.parametrize("meanwhile", turns(list(MEANWHILE), 4))
def test_each_event_is_published_once_for_anything_between_two_requests(queue: Told, meanwhile: str) -> None:
    some_events(queue)
    for held_up_at in range(steps_of_a_publisher(queue)):
        queue.reset()
        some_events(queue)
        actor = queue.publisher()
        for _ in range(held_up_at):
            actor.step()
        MEANWHILE[meanwhile](queue)
        queue.check()
        while actor.step():
            queue.check()
        assert actor.error is None
        queue.complete()


def test_a_sleeper_inserts_nothing_that_a_reader_sees(queue: Told) -> None:
    """It wakes up before its insert, after others have published and trimmed more events than it has."""
    queue.add("a", "b", "c")
    late = queue.publisher().until("events.insert_many")
    queue.trim()
    queue.add(*(f"j{n}" for n in range(20)))
    queue.trim()
    queue.toggle("a")
    queue.toggle("b")
    seen = queue.cursor
    late.until("counters.aggregate")
    assert queue.base["events"].count_documents({"_id": {"$lte": 3}}) == 3  # it has inserted its events again
    assert queue.base["jobs"].count_documents({"unpublished": True}) == 2  # it has removed no event
    assert queue.store.read_events(None, 99).events[0][1].event == "job.held"
    late.finish()
    page = queue.store.read_events(seen, 99)
    assert not page.gap
    assert [event.event for _, event in page.events] == ["job.held", "job.held"]
    queue.trim()
    assert queue.base["events"].count_documents({"_id": {"$lte": 3}}) == 0
    queue.complete()


def test_a_sleeper_after_its_insert_removes_only_what_it_has_published(queue: Told) -> None:
    queue.add("a", "b", "c")
    late = queue.publisher().until("jobs.bulk_write")
    queue.trim()
    queue.toggle("a")
    queue.toggle("b")
    late.finish()
    queue.complete()


def test_the_number_of_a_trimmed_event_is_not_used_again(queue: Told) -> None:
    queue.add("a", "b", "c")
    queue.trim()
    assert queue.log() == []
    assert queue.base["events"].count_documents({}) == 1
    queue.toggle("a")
    assert [cursor for cursor, _ in queue.store.read_events(None, 9).events] == ["4"]
    queue.complete()


def test_several_publishers_at_once_publish_each_event_once(queue: Told) -> None:
    handles = [queue.ground.open() for _ in range(4)]
    jobs = [[f"{n}-{i}" for i in range(60)] for n in range(4)]

    def work(place: int) -> None:
        store = handles[place]
        for id in jobs[place]:
            new = new_job(id)
            [added] = store.add([new], [events_of.between(None, new)])
            held = lifecycle.hold(added.job, now=NOW)
            store.save([held], [events_of.between(added.job, held)])
            publish.publish(queue.ground.base)

    race(*[lambda p=place: work(p) for place in range(4)])
    for id in (id for some in jobs for id in some):
        queue.changes += [("enqueued", id), ("held", id)]
    queue.complete()
    assert queue.log() == list(range(1, 481))


def test_a_reader_during_inserts_sees_no_gap(queue: Told) -> None:
    rounds, size = 10, 400

    def work() -> None:
        for n in range(rounds):
            queue.add(*(f"j{n}-{i}" for i in range(size)))
            publish.publish(queue.ground.base)

    def look() -> None:
        log, last = publish.with_majority(queue.ground.base)["events"], 0
        while last < rounds * size:
            numbers = [each["_id"] for each in log.find({"_id": {"$gt": last}}, {"_id": 1}).sort("_id", 1)]
            assert numbers == list(range(last + 1, last + 1 + len(numbers)))
            last += len(numbers)

    race(work, look)
    queue.complete()


def test_the_deletion_of_a_job_keeps_its_events_until_they_are_published(queue: Told) -> None:
    queue.add("a", "b")
    queue.cancel("a", "b")
    assert queue.store.purge(Filter(id_prefix="a"), 9) == ["a"]  # tells nothing
    queue.purge("b")
    ended_counts.merge(queue.base, at_least=1)
    assert queue.base["jobs"].count_documents({"gone": True}) == 2
    queue.complete()
    assert queue.base["jobs"].count_documents({}) == 0


def test_the_events_of_a_swap_are_published_although_its_process_died(queue: Told) -> None:
    jobs = (new_job("a"), new_job("b"))
    told = tuple(events_of.between(None, job) for job in jobs)
    change = [Swap("schedules", "s", {}, 0, adding=jobs, telling=told)]
    Actor(queue.base, lambda base: swap.swap(base, change, NOW)).until("shared.aggregate").kill()
    queue.store.read_table("schedules")
    queue.changes += [("enqueued", "a"), ("enqueued", "b")]
    queue.complete()


def test_the_times_of_events_rise(queue: Told) -> None:
    queue.add("a")
    queue.ground.clock.step(minutes=10)
    queue.add("b")
    queue.follow()
    queue.ground.clock.step(minutes=-5)  # another client measured the server's clock less exactly
    queue.toggle("a")
    times = [event.at for _, event in queue.store.read_events(None, 9).events]
    assert times == [NOW, NOW + timedelta(minutes=10), NOW + timedelta(minutes=10)]


def test_the_times_follow_a_clock_that_was_set_back_by_more_than_an_hour(queue: Told) -> None:
    queue.ground.clock.step(days=365 * 50)
    queue.add("a")
    queue.follow()
    queue.ground.clock.reset()
    store = queue.ground.open()
    store.add([new_job("b")], [events_of.between(None, new_job("b"))])
    assert [event.at for _, event in store.read_events("1", 9).events] == [NOW]


def test_a_reader_is_not_sent_back_by_an_older_state_of_the_log(queue: Told) -> None:
    """After an election the new primary may know less for a moment. A write shows whether that is so."""
    queue.add("a", "b", "c")
    queue.follow()
    reader = Actor(queue.base, lambda base: events.read(base, "4", 9)).until("counters.aggregate")
    reader.step()
    queue.toggle("a")
    publish.publish(queue.base)
    page = reader.finish()
    assert (page.events, page.next, page.gap) == ([], "4", False)


def test_a_reader_begins_again_if_its_page_is_trimmed_meanwhile(queue: Told) -> None:
    queue.add("a", "b", "c", "d")
    queue.follow()
    reader = Actor(queue.base, lambda base: events.read(base, "1", 9)).until("events.find")
    queue.store.trim_events(NOW - FAR, 1, 99)
    page = reader.finish()
    assert page.gap
    assert [event.job for _, event in page.events] == ["d"]


def test_a_job_with_very_many_events_has_them_published_by_the_next_change(
    queue: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_ROOM", {"events.4": {"$exists": False}})
    queue.add("a", "b")
    for _ in range(12):
        queue.toggle("a")
        assert len(queue.base["jobs"].find_one({"id": "a"}, {"events": 1})["events"]) <= 5  # type: ignore[index]
    stale = lifecycle.cancel(new_job("a"), by="me", reason=None, now=NOW)
    assert statuses(queue.store.save([stale], [events_of.between(new_job("a"), stale)])) == ["stale"]
    queue.complete()


def test_a_heartbeat_publishes_if_many_jobs_have_events(queue: Told) -> None:
    queue.add(*(f"j{n}" for n in range(publish.BACKLOG - 1)))
    publish.relieve(queue.base)
    assert queue.log() == []
    queue.add("one more")
    publish.relieve(queue.base)
    assert len(queue.log()) == publish.BACKLOG
    queue.complete()


def test_many_events_are_published_in_parts(queue: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "JOBS_AT_ONCE", 3)
    monkeypatch.setattr(publish, "EVENTS_AT_ONCE", 4)
    for n in range(4):
        queue.add(*(f"j{n}-{k}" for k in range(3)))
        queue.toggle(f"j{n}-1")
    assert publish.publish(queue.base).more
    assert queue.store.event_cursor(None) == "16"
    queue.complete()


@pytest.mark.parametrize("value", [7, [], [3], [{"v": "x"}], {"$x": 1}, None])
def test_a_damaged_document_blocks_no_other(queue: Told, value: Any) -> None:
    queue.add("a", "b")
    queue.base["jobs"].update_one({"id": "a"}, {"$set": {"events": value}})
    queue.changes.remove(("enqueued", "a"))
    queue.follow()
    assert queue.read == [("enqueued", "b")]
    publish.publish_all(queue.base)
    assert queue.base["jobs"].count_documents({"unpublished": True}) == 0


def test_a_missing_counter_is_not_replaced(queue: Told) -> None:
    queue.add("a")
    queue.base["counters"].delete_one({"_id": "events"})
    with pytest.raises(StoreUnusable, match="the counter of events is missing"):
        queue.store.read_events(None, 9)


IDS = ("a", "b", "c")
HAPPENING = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.sampled_from(("publish", "kill")), st.integers(0, 2), st.just("")),
        st.tuples(
            st.sampled_from(("add", "toggle", "cancel", "purge", "trim", "follow")),
            st.just(0),
            st.sampled_from(IDS),
        ),
    ),
    min_size=8,
    max_size=40,
)


@given(HAPPENING)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_event_is_published_once_in_any_order(one_for_all: Told, happening: Any) -> None:
    queue = one_for_all
    queue.reset()
    actors: dict[int, Actor] = {}
    try:
        for what, place, detail in happening:
            happen(queue, actors, what, place, detail)
            queue.check()
    finally:
        for actor in actors.values():
            actor.kill()
    queue.complete()


def happen(queue: Told, actors: dict[int, Actor], what: str, place: int, detail: Any) -> None:
    """One thing of those that may come in any order."""
    actor = actors.get(place)
    if what == "step" and actor is not None:
        for _ in range(detail):
            actor.step()
        assert actor.error is None
    elif what == "kill" and actor is not None:
        actor.kill()
    elif what == "publish" and (actor is None or actor.next is None):
        actors[place] = queue.publisher()
    elif what in ("add", "toggle", "cancel", "purge"):
        getattr(queue, what)(detail)
    elif what in ("trim", "follow"):
        getattr(queue, what)()


@pytest.fixture(scope="module")
def one_for_all(mongo_server: MongoServer | GivenMongo) -> Iterator[Told]:
    """A queue that many short examples share."""
    ground = MongoGround(mongo_server)
    yield Told(ground)
    ground.close()
