"""`read_table` and `swap` read and change small shared tables."""

from typing import get_args

import pytest

from contract.grounds import race
from queuectl.store.protocol import Entry, Store, Swap, Table


def test_an_empty_table_has_no_entries(store: Store) -> None:
    assert store.read_table("settings") == {}


@pytest.mark.doubles
def test_an_entry_is_read_back_with_its_version(store: Store) -> None:
    value = {"paused": True, "limit": None, "note": "ü", "deep": [1, {"x": 2.5}]}
    assert store.swap([Swap("queues", "q", value, 0)])[0]
    assert store.read_table("queues") == {"q": Entry(value, 1)}
    assert store.swap([Swap("queues", "q", {"paused": False}, 1)])[0]
    assert store.read_table("queues") == {"q": Entry({"paused": False}, 2)}


def test_the_tables_are_separate(store: Store) -> None:
    store.swap([Swap("queues", "a", {"x": 1}, 0)])
    store.swap([Swap("settings", "a", {"x": 2}, 0)])
    assert store.read_table("schedules") == {}
    assert store.read_table("settings")["a"].value == {"x": 2}


@pytest.mark.doubles
@pytest.mark.parametrize("table", get_args(Table))
def test_each_table_stores_an_entry(store: Store, table: Table) -> None:
    assert store.swap([Swap(table, "a", {"x": table}, 0)])[0]
    assert {each: [*store.read_table(each)] for each in get_args(Table)} == {
        each: ["a"] if each == table else [] for each in get_args(Table)
    }
    assert store.read_table(table)["a"].value == {"x": table}


def test_an_older_version_is_refused(store: Store) -> None:
    store.swap([Swap("settings", "a", {"x": 1}, 0)])
    assert not store.swap([Swap("settings", "a", {"x": 2}, 0)])[0]
    assert not store.swap([Swap("settings", "a", {"x": 2}, 2)])[0]
    assert not store.swap([Swap("settings", "b", {"x": 2}, 1)])[0]
    assert store.read_table("settings") == {"a": Entry({"x": 1}, 1)}


def test_an_entry_is_removed_with_none(store: Store) -> None:
    store.swap([Swap("settings", "a", {"x": 1}, 0)])
    assert not store.swap([Swap("settings", "a", None, 0)])[0]
    assert not store.swap([Swap("settings", "a", None, 7)])[0]
    assert store.swap([Swap("settings", "a", None, 1)])[0]
    assert store.read_table("settings") == {}
    assert store.swap([Swap("settings", "a", None, 0)])[0]


@pytest.mark.doubles
def test_of_several_concurrent_swaps_of_one_version_one_succeeds(store: Store, other: Store) -> None:
    handles = (store, other) * 4
    answers = race(
        *[lambda h=h, n=n: h.swap([Swap("settings", "a", {"n": n}, 0)])[0] for n, h in enumerate(handles)]
    )
    assert answers.count(True) == 1
    assert store.read_table("settings") == {"a": Entry({"n": answers.index(True)}, 1)}


def test_concurrent_counters_by_swap_lose_no_count(store: Store, other: Store) -> None:
    store.swap([Swap("settings", "n", {"n": 0}, 0)])

    def count(handle: Store) -> None:
        for _ in range(10):
            while True:
                entry = handle.read_table("settings")["n"]
                if handle.swap([Swap("settings", "n", {"n": entry.value["n"] + 1}, entry.version)])[0]:
                    break

    race(*[lambda h=h: count(h) for h in (store, other) * 2])
    assert store.read_table("settings")["n"] == Entry({"n": 40}, 41)
