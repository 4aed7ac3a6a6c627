"""`swap` changes entries and adds jobs in one step; `upcoming` finds the entries that need work."""

from datetime import timedelta

import pytest

from contract.grounds import Ground, race
from factories import NOW, new_job
from queuectl.domain.query import Filter, Page
from queuectl.store.protocol import Entry, Store, Swap

SECOND = timedelta(seconds=1)


def ids(store: Store) -> list[str]:
    return sorted(job.id for job in store.find(Filter(), Page(limit=1000)).jobs)


@pytest.mark.doubles
def test_an_entry_and_its_jobs_are_stored(store: Store) -> None:
    jobs = (new_job("a"), new_job("b", tags=("t",), batch="x"))
    assert store.swap([Swap("schedules", "s", {"n": 1}, 0, adding=jobs)]) == [True]
    assert store.read_table("schedules") == {"s": Entry({"n": 1}, 1)}
    assert ids(store) == ["a", "b"]
    numbers = [store.get([id])[id].number for id in ("a", "b")]
    assert 0 < numbers[0] < numbers[1] <= store.last_number()
    assert [job.id for job in store.find(Filter(tag="t", batch="x"), Page()).jobs] == ["b"]


@pytest.mark.doubles
def test_a_refused_swap_stores_no_job(store: Store) -> None:
    store.swap([Swap("schedules", "s", {"n": 1}, 0)])
    assert store.swap([Swap("schedules", "s", {"n": 2}, 0, adding=(new_job("a"),))]) == [False]
    assert store.swap([Swap("schedules", "s", {"n": 2}, 2, adding=(new_job("a"),))]) == [False]
    assert store.swap([Swap("schedules", "absent", {"n": 2}, 1, adding=(new_job("a"),))]) == [False]
    assert ids(store) == []
    assert store.read_table("schedules") == {"s": Entry({"n": 1}, 1)}


def test_added_jobs_are_claimed_and_counted(store: Store) -> None:
    store.swap([Swap("schedules", "s", {}, 0, adding=(new_job("a"), new_job("b", hold=True)))])
    assert store.counts(Filter()).states() == {"pending": 1, "held": 1}
    assert [job.id for job in store.claim("w", (), 5, 30 * SECOND)] == ["a"]


@pytest.mark.doubles
def test_a_known_id_is_skipped(store: Store) -> None:
    store.add([new_job("a", priority=7)])
    assert store.swap([Swap("schedules", "s", {}, 0, adding=(new_job("a"), new_job("b")))]) == [True]
    assert ids(store) == ["a", "b"]
    assert store.get(["a"])["a"].priority == 7


def test_each_swap_of_a_batch_has_its_own_result(store: Store) -> None:
    store.swap([Swap("schedules", "stale", {"n": 1}, 0), Swap("schedules", "gone", {"n": 1}, 0)])
    batch = [
        Swap("schedules", "new", {"n": 1}, 0, adding=(new_job("a"),)),
        Swap("schedules", "stale", {"n": 2}, 9, adding=(new_job("b"),)),
        Swap("schedules", "gone", None, 1),
        Swap("operations", "new", {"n": 3}, 0, adding=(new_job("c"), new_job("d"))),
        Swap("schedules", "absent", None, 0),
        Swap("schedules", "stale-too", None, 4),
    ]
    assert store.swap(batch) == [True, False, True, True, True, False]
    assert ids(store) == ["a", "c", "d"]
    assert store.read_table("schedules") == {"new": Entry({"n": 1}, 1), "stale": Entry({"n": 1}, 1)}
    assert store.read_table("operations") == {"new": Entry({"n": 3}, 1)}
    assert store.swap([]) == []


@pytest.mark.doubles
def test_of_several_concurrent_swaps_of_one_version_one_adds_its_jobs(store: Store, other: Store) -> None:
    for turn in range(5):
        answers = race(
            *[
                lambda h=handle, n=n, r=turn: h.swap(
                    [Swap("schedules", "s", {"n": n}, r, adding=(new_job(f"{r}-{n}"),))]
                )
                for n, handle in enumerate((store, other) * 3)
            ]
        )
        assert answers.count([True]) == 1
        winner = answers.index([True])
        assert store.read_table("schedules")["s"] == Entry({"n": winner}, turn + 1)
        assert [id for id in ids(store) if id.startswith(f"{turn}-")] == [f"{turn}-{winner}"]


def test_a_repeated_batch_after_a_lost_reply_changes_nothing(store: Store) -> None:
    batch = [Swap("schedules", f"s{n}", {}, 0, adding=(new_job(f"j{n}"),)) for n in range(3)]
    assert store.swap(batch) == [True] * 3
    store.purge(Filter(), 10)
    assert store.swap(batch) == [False] * 3
    assert ids(store) == ["j0", "j1", "j2"]


def test_a_hundred_jobs_are_added_at_once(store: Store) -> None:
    jobs = tuple(new_job(f"j{n:03}", env={"TEXT": "x" * 10_000}) for n in range(100))
    assert store.swap([Swap("schedules", "s", {}, 0, adding=jobs)]) == [True]
    assert ids(store) == [job.id for job in jobs]


def test_some_entries_of_a_table_are_read(store: Store) -> None:
    store.swap([Swap("schedules", name, {"is": name}, 0) for name in "abc"])
    assert store.read_table("schedules", ["c", "x", "a"]) == {
        "a": Entry({"is": "a"}, 1),
        "c": Entry({"is": "c"}, 1),
    }
    assert store.read_table("schedules", []) == store.read_table("schedules", ()) == {}


class TestUpcoming:
    @pytest.mark.doubles
    def test_the_entries_of_all_tables_come_in_the_order_of_their_times(self, store: Store) -> None:
        store.swap(
            [
                Swap("schedules", "late", {"n": 1}, 0, due=NOW + 9 * SECOND),
                Swap("operations", "soon", {"n": 2}, 0, due=NOW - 3 * SECOND),
                Swap("schedules", "never", {"n": 3}, 0),
                Swap("schedules", "exact", {"n": 4}, 0, due=NOW + timedelta(microseconds=123_457)),
            ]
        )
        found = store.upcoming(10)
        assert [(each.table, each.key, each.entry) for each in found] == [
            ("operations", "soon", Entry({"n": 2}, 1)),
            ("schedules", "exact", Entry({"n": 4}, 1)),
            ("schedules", "late", Entry({"n": 1}, 1)),
        ]
        assert [each.due - NOW for each in found] == [
            -3 * SECOND,
            timedelta(microseconds=123_457),
            9 * SECOND,
        ]
        assert [each.key for each in store.upcoming(2)] == ["soon", "exact"]

    def test_a_swap_moves_and_removes_the_time(self, store: Store) -> None:
        store.swap([Swap("schedules", name, {}, 0, due=NOW) for name in ("moved", "cleared", "removed")])
        store.swap(
            [
                Swap("schedules", "moved", {"n": 1}, 1, due=NOW + SECOND),
                Swap("schedules", "cleared", {}, 1),
                Swap("schedules", "removed", None, 1),
            ]
        )
        assert [(each.key, each.due, each.entry.version) for each in store.upcoming(9)] == [
            ("moved", NOW + SECOND, 2)
        ]

    def test_a_name_may_contain_a_slash(self, store: Store) -> None:
        store.swap([Swap("operations", "a/b/c", {"n": 1}, 0, due=NOW)])
        assert [(each.table, each.key) for each in store.upcoming(1)] == [("operations", "a/b/c")]

    def test_another_handle_sees_it(self, store: Store, other: Store, ground: Ground) -> None:  # noqa: ARG002
        store.swap([Swap("schedules", "s", {}, 0, due=NOW)])
        assert [each.key for each in other.upcoming(1)] == ["s"]
