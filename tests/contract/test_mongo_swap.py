"""A change of an entry of MongoDB with jobs is three writes; a process can die, or sleep, between any two of them."""

from datetime import timedelta

import pytest

from contract.grounds import MongoGround, race
from contract.mongo_steps import Actor
from factories import NOW, new_job, statuses
from queuectl.domain import lifecycle
from queuectl.domain.query import Filter, Page
from queuectl.store.mongo import MongoStore, purge, swap
from queuectl.store.protocol import Entry, Swap


@pytest.fixture
def ground(mongo_ground: MongoGround) -> MongoGround:
    return mongo_ground


@pytest.fixture
def store(ground: MongoGround) -> MongoStore:
    store = ground.open()
    store.migrate()
    return store


FIRE = [Swap("schedules", "s", {"n": 1}, 0, adding=(new_job("a"), new_job("b")))]
REQUESTS = ["counters.find_one_and_update", "shared.bulk_write", "shared.aggregate", "shared.update_many"]


def by_hand(ground: MongoGround, swaps: list[Swap] = FIRE) -> Actor:
    """A change that is made step by step."""
    return Actor(ground.base, lambda base: swap.swap(base, swaps, NOW))


def ids(store: MongoStore) -> list[str]:
    return sorted(job.id for job in store.find(Filter(), Page()).jobs)


@pytest.mark.usefixtures("store")
def test_the_requests_are_those_of_the_table(ground: MongoGround) -> None:
    actor, seen = by_hand(ground), list[str]()
    while actor.next is not None:
        seen.append(actor.next)
        actor.step()
    assert [request for request in seen if not request.startswith(("bells", "rings"))] == REQUESTS


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("read", ["table", "keys", "upcoming"])
def test_a_reader_completes_the_change_of_a_dead_process(
    ground: MongoGround, store: MongoStore, request_: str, read: str
) -> None:
    due = [Swap("schedules", "s", {"n": 1}, 0, due=NOW, adding=FIRE[0].adding)]
    by_hand(ground, due).until(request_).kill()
    found = {
        "table": lambda: store.read_table("schedules"),
        "keys": lambda: store.read_table("schedules", ["s"]),
        "upcoming": lambda: {each.key: each.entry for each in store.upcoming(9)},
    }[read]()
    if REQUESTS.index(request_) < 2:
        assert (found, ids(store)) == ({}, [])
    else:
        assert (found, ids(store)) == ({"s": Entry({"n": 1}, 1)}, ["a", "b"])
        assert ground.base["shared"].find_one({"_id": "schedules/s"}, {"plan": 1}) == {"_id": "schedules/s"}
    assert store.swap(FIRE) == [REQUESTS.index(request_) < 2]
    assert ids(store) == ["a", "b"]


@pytest.mark.parametrize("request_", REQUESTS[2:])
def test_a_process_that_sleeps_adds_no_job_that_ran_and_was_purged(
    ground: MongoGround, store: MongoStore, request_: str
) -> None:
    late = by_hand(ground).until(request_)
    assert store.read_table("schedules")["s"].version == 1
    cancelled = [
        lifecycle.cancel(job, by="x", now=NOW, reason=None) for job in store.find(Filter(), Page()).jobs
    ]
    assert statuses(store.save(cancelled)) == ["accepted"] * 2
    assert sorted(store.purge(Filter(), 9)) == ["a", "b"]
    assert late.finish() == [True]
    assert ids(store) == []


def test_a_late_process_does_not_remove_the_plan_of_a_later_change(
    ground: MongoGround, store: MongoStore
) -> None:
    late = by_hand(ground).until("shared.update_many")
    assert store.read_table("schedules")["s"].version == 1
    by_hand(ground, [Swap("schedules", "s", {"n": 2}, 1, adding=(new_job("c"),))]).until(
        "shared.aggregate"
    ).kill()
    late.finish()
    assert ids(store) == ["a", "b"]
    assert store.read_table("schedules")["s"].version == 2
    assert ids(store) == ["a", "b", "c"]


def test_an_entry_with_a_plan_is_not_changed(ground: MongoGround, store: MongoStore) -> None:
    by_hand(ground).until("shared.aggregate").kill()
    assert store.swap([Swap("schedules", "s", {"n": 2}, 1)]) == [False]
    assert store.swap([Swap("schedules", "s", None, 1)]) == [False]
    assert store.read_table("schedules")["s"] == Entry({"n": 1}, 1)
    assert ids(store) == ["a", "b"]
    assert store.swap([Swap("schedules", "s", {"n": 2}, 1)]) == [True]


def test_several_readers_complete_the_same_plan_at_once(ground: MongoGround, store: MongoStore) -> None:
    readers = [ground.open() for _ in range(4)]
    for turn in range(5):
        jobs = tuple(new_job(f"{turn}-{n}") for n in range(50))
        by_hand(ground, [Swap("schedules", f"s{turn}", {}, 0, adding=jobs)]).until("shared.aggregate").kill()
        answers = race(*[lambda r=reader: r.read_table("schedules") for reader in readers])
        assert all(f"s{turn}" in answer for answer in answers)
        assert len(store.find(Filter(id_prefix=f"{turn}-"), Page(limit=100)).jobs) == 50


def end(store: MongoStore) -> None:
    """Cancel all jobs, and delete them."""
    jobs = store.find(Filter(), Page()).jobs
    cancelled = [lifecycle.cancel(job, by="x", now=NOW, reason=None) for job in jobs]
    assert set(statuses(store.save(cancelled))) == {"accepted"}
    assert len(store.purge(Filter(), 9)) == len(jobs)


@pytest.mark.parametrize("read", ["table", "upcoming"])
def test_a_plan_left_behind_inserts_no_job_that_was_purged(
    ground: MongoGround, store: MongoStore, read: str
) -> None:
    by_hand(ground).until("shared.update_many").kill()
    end(store)
    found = store.read_table("schedules") if read == "table" else store.upcoming(9)
    assert len(found) == (1 if read == "table" else 0)
    assert ids(store) == []
    assert store.read_table("schedules")["s"] == Entry({"n": 1}, 1)


def test_a_job_ends_in_the_moment_of_a_purge(ground: MongoGround, store: MongoStore) -> None:
    store.add([new_job("z")])
    store.save([lifecycle.cancel(store.get(["z"])["z"], by="x", now=NOW, reason=None)])
    late = Actor(ground.base, lambda base: purge.purge(base, Filter(), 9, None)).until("shared.find")
    by_hand(ground).until("shared.update_many").kill()
    assert late.finish() == ["z"]
    assert ids(store) == ["a", "b"]


def test_an_unfinished_change_is_found_before_entries_that_are_due_sooner(
    ground: MongoGround, store: MongoStore
) -> None:
    store.swap([Swap("schedules", f"sooner{n}", {}, 0, due=NOW - timedelta(days=1)) for n in range(3)])
    planned = Swap("schedules", "s", {"n": 1}, 0, due=NOW + timedelta(days=1), adding=FIRE[0].adding)
    by_hand(ground, [planned]).until("shared.aggregate").kill()
    assert [each.key for each in store.upcoming(1)] != ["s"]
    assert ids(store) == ["a", "b"]
    assert [(each.key, each.due) for each in store.upcoming(9)][-1] == ("s", NOW + timedelta(days=1))


def test_a_late_process_does_not_remove_the_plan_of_an_entry_that_was_made_again(
    ground: MongoGround, store: MongoStore
) -> None:
    late = by_hand(ground).until("shared.update_many")
    assert store.read_table("schedules")["s"].version == 1
    assert store.swap([Swap("schedules", "s", None, 1)]) == [True]
    by_hand(ground, [Swap("schedules", "s", {"n": 2}, 0, adding=(new_job("c"),))]).until(
        "shared.aggregate"
    ).kill()
    late.finish()
    assert store.read_table("schedules")["s"] == Entry({"n": 2}, 1)
    assert ids(store) == ["a", "b", "c"]
