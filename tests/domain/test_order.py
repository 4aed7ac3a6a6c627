"""The order of jobs: a waiting job rises with time, and the time by which it can be overtaken is bounded."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from factories import NOW
from queuectl.domain.job import sort_key

MOMENTS = st.timedeltas(timedelta(0), timedelta(days=365)).map(lambda d: NOW + d)
PRIORITIES = st.integers(-1000, 1000)
BOOSTS = st.timedeltas(timedelta(0), timedelta(days=2))
MILLISECOND = timedelta(milliseconds=1)


@given(MOMENTS, MOMENTS, PRIORITIES, PRIORITIES, BOOSTS)
def test_a_job_is_overtaken_only_within_the_boost_of_the_priority(
    ready: timedelta, later: timedelta, low: int, high: int, boost: timedelta
) -> None:
    overtakes = sort_key(later, high, boost) < sort_key(ready, low, boost)
    bound = ready + (high - low) * boost
    if overtakes:
        assert later <= bound + (abs(high) + abs(low) + 2) * MILLISECOND
    if later > bound + (abs(high) + abs(low) + 2) * MILLISECOND:
        assert not overtakes


@given(MOMENTS, PRIORITIES, BOOSTS)
def test_of_jobs_ready_at_once_the_higher_priority_is_first(
    ready: timedelta, priority: int, boost: timedelta
) -> None:
    assert sort_key(ready, priority + 1, boost) <= sort_key(ready, priority, boost)


@given(MOMENTS, MOMENTS, PRIORITIES, BOOSTS)
def test_of_jobs_of_equal_priority_the_earlier_ready_one_is_first(
    one: timedelta, other: timedelta, priority: int, boost: timedelta
) -> None:
    first, second = sorted((one, other))
    assert sort_key(first, priority, boost) <= sort_key(second, priority, boost)


def test_a_point_of_priority_is_worth_an_hour_of_waiting() -> None:
    hour = timedelta(hours=1)
    assert sort_key(NOW, 0, hour) == sort_key(NOW + hour, 1, hour)
