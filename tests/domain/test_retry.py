"""Retry delays: they grow as documented, up to a limit, with jitter, and never overflow."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain.retry import FOREVER, RetryPolicy


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 2), (2, 4), (3, 8), (11, 2048), (12, 3600), (50, 3600)]
)
def test_the_delay_doubles_up_to_the_maximum(failures: int, seconds: int) -> None:
    assert RetryPolicy().delay(failures, 0.5) == timedelta(seconds=seconds)


@pytest.mark.parametrize("base", [1.0001, 2.0, 1e6])
@pytest.mark.parametrize("failures", [1100, 10**6, 10**9])
def test_a_million_failures_do_not_overflow(base: float, failures: int) -> None:
    delay = RetryPolicy(max_retries=FOREVER, base=base).delay(failures, 0.99)
    assert timedelta(0) < delay <= timedelta(hours=1)


policies = st.builds(
    RetryPolicy,
    base=st.floats(0.5, 100),
    factor=st.timedeltas(timedelta(0), timedelta(days=1)),
    longest=st.timedeltas(timedelta(0), timedelta(days=30)),
    jitter=st.floats(0, 1),
)


@given(policies, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_between_zero_and_the_maximum(
    policy: RetryPolicy, failures: int, random_number: float
) -> None:
    assert timedelta(0) <= policy.delay(failures, random_number) <= policy.longest


@given(st.floats(0, 1), st.integers(1, 8), st.floats(0, 1, exclude_max=True))
def test_jitter_changes_a_delay_by_at_most_its_fraction(
    jitter: float, failures: int, random_number: float
) -> None:
    plain = RetryPolicy().delay(failures, 0.5)
    spread = RetryPolicy(jitter=jitter).delay(failures, random_number)
    tiny = timedelta(microseconds=2)
    assert plain * (1 - jitter) - tiny <= spread <= plain * (1 + jitter) + tiny


def test_without_jitter_the_random_number_has_no_effect() -> None:
    assert {RetryPolicy().delay(2, random_number) for random_number in (0.0, 0.3, 0.999)} == {
        timedelta(seconds=4)
    }


def test_a_base_of_one_gives_equal_delays() -> None:
    policy = RetryPolicy(base=1.0, factor=timedelta(seconds=7))
    assert {policy.delay(failures, 0.5) for failures in (1, 2, 1000)} == {timedelta(seconds=7)}


def test_a_factor_of_zero_gives_no_delay() -> None:
    assert RetryPolicy(factor=timedelta(0)).delay(3, 0.5) == timedelta(0)


def test_max_retries_does_not_count_the_first_attempt() -> None:
    policy = RetryPolicy(max_retries=3)
    assert [policy.allows(failures, 1) for failures in (1, 2, 3, 4)] == [True, True, True, False]
    assert RetryPolicy(max_retries=FOREVER).allows(10**6, 1)
    assert not RetryPolicy(no_retry_codes=(7,)).allows(1, 7)
    assert RetryPolicy(no_retry_codes=(7,)).allows(1, None)
