"""The end of a parent satisfies or breaks a dependency; and cycles are found in chains of any length."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.dependency import ended_otherwise, find_cycle, still_waiting
from queuectl.domain.job import STATES, Parent, State, Want

ENDS: dict[tuple[Want, State], str] = {
    ("ok", "completed"): "done",
    ("ok", "dead"): "broken",
    ("ok", "cancelled"): "broken",
    ("any", "completed"): "done",
    ("any", "dead"): "done",
    ("any", "cancelled"): "done",
    ("failed", "completed"): "broken",
    ("failed", "dead"): "done",
    ("failed", "cancelled"): "done",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("on", ["ok", "any", "failed"])
def test_the_state_of_a_parent_decides_whether_a_dependency_is_satisfied(on: Want, state: State) -> None:
    after, expected = (Parent("p", on),), ENDS.get((on, state), "open")
    assert (still_waiting(after, {"p": state}) == ()) == (expected == "done")
    assert (ended_otherwise(after, {"p": state}) == ("p",)) == (expected == "broken")


def test_a_child_waits_for_an_unknown_parent() -> None:
    assert still_waiting((Parent("p"),), {}) == ("p",)
    assert ended_otherwise((Parent("p"),), {}) == ()


def test_a_cycle_is_listed_from_its_first_job_back_to_its_first_job() -> None:
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["a"]}) == ["a", "b", "c", "a"]
    assert find_cycle({"a": ["a"]}) == ["a", "a"]


def test_a_diamond_is_not_a_cycle() -> None:
    assert find_cycle({"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []}) is None


def test_a_chain_of_ten_thousand_jobs_is_searched_for_a_cycle() -> (
    None
):  # ten times what Python's recursion allows
    chain = {f"j{n}": [f"j{n + 1}"] for n in range(10_000)}
    assert find_cycle(chain) is None
    chain["j10000"] = ["j0"]
    found = find_cycle(chain)
    assert found is not None
    assert len(found) == 10_002


graphs = st.dictionaries(
    st.integers(0, 7).map(str), st.lists(st.integers(0, 7).map(str), max_size=3), max_size=8
)


@given(graphs)
def test_a_cycle_is_found_if_and_only_if_one_exists(parents: dict[str, list[str]]) -> None:
    found = find_cycle(parents)
    if found is None:
        assert _can_be_ordered(parents)
    else:
        assert found[0] == found[-1]
        assert all(parent in parents[job] for job, parent in pairwise(found))


def _can_be_ordered(parents: dict[str, list[str]]) -> bool:
    left = dict(parents)
    while left:
        free = [job for job, wanted in left.items() if not any(parent in left for parent in wanted)]
        if not free:
            return False
        for job in free:
            del left[job]
    return True
