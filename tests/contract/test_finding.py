"""`get` and `find` return matching jobs, one page at a time."""

import threading
from collections.abc import Iterable
from datetime import timedelta
from itertools import chain
from typing import get_args

import pytest

from contract.grounds import SteppedClock, named, race
from factories import LEASE, NOW, in_state, new_job
from queuectl.domain import lifecycle
from queuectl.domain.job import STATES, TERMINAL, Job, Parent, State
from queuectl.domain.query import Filter, Page, Sort, matches
from queuectl.errors import InvalidInput
from queuectl.store.protocol import Store

SORTS = get_args(Sort)


def pages(store: Store, wanted: Filter, sort: Sort, limit: int) -> list[list[str]]:
    found, after = [], None
    while True:
        page = store.find(wanted, Page(limit=limit, sort=sort, after=after))
        found.append([job.id for job in page.jobs])
        after = page.next
        if after is None:
            return found


def joined(parts: Iterable[list[str]]) -> list[str]:
    return list(chain.from_iterable(parts))


def listed(jobs: Iterable[Job], sort: Sort) -> set[str]:
    """The ids of those jobs that a list in this order has: in the order of ends only ended jobs."""
    return {job.id for job in jobs if job.ended or sort != "ended"}


def ids(store: Store, wanted: Filter, sort: Sort = "created") -> list[str]:
    return joined(pages(store, wanted, sort, 100))


def crowd(store: Store) -> list[Job]:
    """Jobs of every kind, added at different times."""
    for number, state in enumerate(STATES):
        now = NOW - timedelta(minutes=number)
        fields = {"queue": f"q{number % 2}", "priority": number % 3, "batch": "b" if number % 2 else None}
        store.add(
            [
                in_state(state, f"x-{state}", now=now, tags=("red", f"t{number}"), **fields),
                in_state(state, f"y-{state}", now=now, unique_key=f"k{number}", **fields),
            ]
        )
    store.add([new_job("child", after=(Parent("p1"), Parent("p2")))])
    return list(store.get([f"{x}-{state}" for x in "xy" for state in STATES] + ["child"]).values())


def test_unknown_ids_are_left_out(store: Store) -> None:
    store.add([new_job("a"), new_job("b")])
    assert set(store.get(["a", "nobody", "b"])) == {"a", "b"}
    assert store.get(["nobody"]) == {}
    assert store.get([]) == {}


def test_the_pages_together_are_the_whole_list_in_order(store: Store) -> None:
    jobs = crowd(store)
    assert len(jobs) == 17
    for sort in SORTS:
        whole = ids(store, Filter(), sort)
        assert len(whole) == len(set(whole)) == len(listed(jobs, sort)), sort
        for limit in (1, 2, 5, 17, 18):
            found = pages(store, Filter(), sort, limit)
            assert joined(found) == whole, (sort, limit)
            assert all(len(page) == limit for page in found[:-1]), (sort, limit)


def test_sorting_by_created_lists_the_newest_first(store: Store) -> None:
    store.add([new_job("a"), new_job("b")])
    store.add([new_job("c")])
    assert ids(store, Filter(), "created") == ["c", "b", "a"]


def test_sorting_by_updated_lists_the_last_changed_first(store: Store, clock: SteppedClock) -> None:
    jobs = [added.job for added in store.add([new_job("a"), new_job("b"), new_job("c")])]
    store.save([lifecycle.hold(jobs[0], now=clock.step(seconds=1))])
    assert ids(store, Filter(), "updated") == ["a", "c", "b"]


def test_sorting_by_number_lists_the_oldest_first(store: Store) -> None:
    store.add([new_job("a"), new_job("b")])
    store.add([in_state("dead", "c")])
    assert ids(store, Filter(), "number") == ["a", "b", "c"]


def test_sorting_by_ended_lists_the_last_ended_first_and_no_other_jobs(store: Store) -> None:
    for minute, (id, state) in enumerate(
        [("b", "dead"), ("c", "completed"), ("a", "cancelled"), ("d", "dead")]
    ):
        store.add([in_state(state, id, now=NOW + timedelta(minutes=minute))])
    store.add([in_state("dead", "e", now=NOW), in_state("failed", "f"), new_job("g")])
    assert ids(store, Filter(), "ended") == ["d", "a", "c", "e", "b"]
    assert ids(store, Filter(states=frozenset({"dead", "pending"})), "ended") == ["d", "e", "b"]
    assert ids(store, Filter(states=frozenset({"pending"})), "ended") == []


def test_sorting_by_next_lists_jobs_in_the_order_of_claims(store: Store) -> None:
    store.add([new_job("a"), new_job("z", priority=-1), new_job("first", priority=1), new_job("b")])
    listed = ids(store, Filter(states=frozenset({"pending"})), "next")
    assert listed == [job.id for job in store.claim("w1", (), 9, LEASE)] == ["first", "a", "b", "z"]


WANTED = [
    Filter(),
    *(Filter(states=frozenset({state})) for state in STATES),
    Filter(states=frozenset({"completed", "dead"})),
    Filter(states=frozenset({"failed", "blocked", "held"})),
    Filter(states=frozenset({"pending", "dead", "processing"})),
    Filter(queue="q1"),
    Filter(queue="nobody's"),
    Filter(tag="red"),
    Filter(tag="t3"),
    Filter(tag="re"),
    Filter(batch="b"),
    Filter(created_since=NOW - timedelta(minutes=3)),
    Filter(ended_before=NOW - timedelta(minutes=4)),
    Filter(id_prefix="x-"),
    Filter(id_prefix="x-d"),
    Filter(id_prefix="x%"),
    Filter(id_prefix="child"),
    Filter(id_prefix=""),
    Filter(ids=("x-dead", "child", "nobody")),
    Filter(ids=("x-dead", "y-dead"), id_prefix="x-"),
    Filter(number=3),
    Filter(unique_key="k4"),
    Filter(unique_key="k2"),
    Filter(waiting_for=("p2",)),
    Filter(waiting_for=("p1", "p2", "parent")),
    Filter(worker="w1"),
    Filter(worker="w2"),
    Filter(states=frozenset({"dead", "cancelled"}), queue="q0", created_since=NOW - timedelta(hours=1)),
    Filter(states=frozenset({"pending"}), id_prefix="y", queue="q0", batch=None),
]


def differs(store: Store, wanted: Filter, sort: Sort, expected: set[str]) -> bool:
    """Whether a filter finds other jobs than expected, or other ones by pages of two."""
    found = ids(store, wanted, sort)
    return set(found) != expected or joined(pages(store, wanted, sort, 2)) != found


@pytest.mark.doubles
def test_a_filter_finds_exactly_the_matching_jobs(store: Store) -> None:
    jobs = crowd(store)
    wrong = [
        (named(wanted), sort)
        for wanted in WANTED
        for sort in SORTS
        if differs(store, wanted, sort, listed((job for job in jobs if matches(job, wanted)), sort))
    ]
    assert not wrong


def test_the_last_page_has_no_cursor(store: Store) -> None:
    store.add([new_job(), new_job()])
    assert store.find(Filter(), Page(limit=2)).next is None
    assert store.find(Filter(), Page(limit=1)).next is not None
    assert store.find(Filter(queue="none"), Page()).next is None


def test_jobs_added_between_two_pages_do_not_shift_the_pages(store: Store) -> None:
    store.add([new_job(f"j{n}") for n in range(4)])
    first = store.find(Filter(), Page(limit=2))
    store.add([new_job("new")])
    second = store.find(Filter(), Page(limit=2, after=first.next))
    assert [job.id for job in (*first.jobs, *second.jobs)] == ["j3", "j2", "j1", "j0"]


@pytest.mark.parametrize("sort", SORTS)
def test_an_invalid_cursor_is_refused(store: Store, sort: Sort) -> None:
    for cursor in ("", "x", "1:2:3", "1:x", "'; DROP TABLE job"):
        with pytest.raises(InvalidInput):
            store.find(Filter(), Page(after=cursor, sort=sort))


def test_a_reader_never_sees_half_a_batch(store: Store, other: Store) -> None:
    def write() -> None:
        for _ in range(30):
            store.add([new_job() for _ in range(10)])

    def read() -> set[int]:
        return {len(other.find(Filter(), Page(limit=1000)).jobs) % 10 for _ in range(60)}

    assert race(write, read)[1] == {0}


def test_a_job_that_changes_its_state_all_the_time_is_always_found(store: Store, other: Store) -> None:
    store.add([new_job()])
    done = threading.Event()

    def change() -> None:
        for _ in range(100):
            [job] = store.claim("w1", (), 1, LEASE)
            store.save([lifecycle.give_back(job, now=NOW)])
        done.set()

    def read() -> set[int]:
        seen = set()
        while True:
            seen.add(len(other.find(Filter(states=frozenset(STATES) - TERMINAL), Page()).jobs))
            if done.is_set():
                return seen

    assert race(change, read)[1] == {1}


@pytest.mark.parametrize("limit", [1, 3, 10, 39])
def test_pages_of_several_states_contain_every_job(store: Store, limit: int) -> None:
    states: list[State] = ["completed", "dead", "held", "pending"]
    store.add([in_state(states[n % 4], f"j{n}", queue=f"q{n % 3}") for n in range(120)])
    wanted = Filter(states=frozenset(("completed", "dead", "pending")), queue="q1")
    found, after = list[str](), None
    while True:
        page = store.find(wanted, Page(limit=limit, after=after))
        found += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            break
    assert found == [f"j{n}" for n in reversed(range(120)) if n % 4 != 2 and n % 3 == 1]
