"""The claim policy decides when a worker claims jobs and how many."""

from datetime import datetime, timedelta

import pytest

from factories import NOW
from queuectl.worker.agent.claim_policy import (
    AHEAD_MOST,
    SHORT,
    ClaimPolicy,
)


def fed(count: int, *seconds: float) -> ClaimPolicy:
    """The policy of a worker whose commands took so long."""
    policy = ClaimPolicy(count)
    for each in seconds:
        policy.record_run_time(each)
    return policy


class TestAhead:
    def test_a_new_worker_claims_only_for_its_slots(self) -> None:
        assert fed(4).ahead == 0
        assert fed(4).capacity(held=0) == 4

    def test_the_first_short_job_starts_claiming_ahead(self) -> None:
        assert fed(1, 0.002).ahead > 0

    def test_one_long_job_stops_claiming_ahead_at_once(self) -> None:
        assert fed(1, *[0.002] * 100, SHORT * 2).ahead == 0

    def test_the_next_short_job_starts_claiming_ahead_again(self) -> None:
        assert fed(1, 0.002, 60.0, 0.002).ahead > 0

    @pytest.mark.parametrize("seconds", [0.0, 0.001, 0.005, SHORT])
    def test_jobs_claimed_ahead_take_at_most_fifty_milliseconds(self, seconds: float) -> None:
        policy = fed(2, *[seconds] * 50)
        assert policy.ahead * seconds / 2 <= 0.05
        assert policy.ahead <= AHEAD_MOST

    def test_the_number_of_jobs_ahead_grows_with_the_slots(self) -> None:
        assert fed(4, 0.01).ahead == 4 * fed(1, 0.01).ahead


class TestCapacity:
    def test_free_slots_are_capacity(self) -> None:
        assert [fed(4).capacity(held) for held in range(6)] == [4, 3, 2, 1, 0, 0]

    def test_a_few_free_places_ahead_do_not_cause_a_claim(self) -> None:
        policy = fed(2, *[0.005] * 50)
        most = 2 + policy.ahead
        assert policy.capacity(most - 1) == 0
        assert policy.capacity(most - policy.ahead // 2) == policy.ahead // 2
        assert policy.capacity(0) == most


def claims(policy: ClaimPolicy, now: float, store_now: datetime = NOW, tick: float = 1.0) -> bool:
    """Claim if it is time; whether it was."""
    if policy.due(now, store_now) > now:
        return False
    policy.record_claim(now, store_now, tick)
    return True


class TestDue:
    def test_a_new_policy_claims_at_once(self) -> None:
        policy = ClaimPolicy(1)
        assert policy.due(5.0, NOW) == 5.0
        assert claims(policy, 5.0, NOW, tick=1.0)

    def test_after_an_empty_claim_the_tick_decides(self) -> None:
        policy = ClaimPolicy(1)
        claims(policy, 5.0, NOW, tick=1.0)
        policy.dirty = False
        assert not claims(policy, 5.9, NOW, tick=1.0)
        assert policy.due(5.9, NOW) == 6.0
        assert claims(policy, 6.0, NOW, tick=1.0)

    def test_a_due_retry_causes_one_claim(self) -> None:
        policy = ClaimPolicy(1)
        claims(policy, 0.0, NOW, tick=60.0)
        policy.dirty = False
        policy.retry_at(NOW + timedelta(seconds=2))
        assert policy.due(0.0, NOW) == 2.0
        assert not claims(policy, 1.0, NOW + timedelta(seconds=1), tick=60.0)
        assert claims(policy, 2.0, NOW + timedelta(seconds=2), tick=60.0)
        assert not claims(policy, 2.1, NOW + timedelta(seconds=2.1), tick=60.0)

    def test_the_earliest_of_several_retries_decides(self) -> None:
        policy = ClaimPolicy(1)
        claims(policy, 0.0, NOW, tick=60.0)
        policy.dirty = False
        for seconds in (30, 4, 9):
            policy.retry_at(NOW + timedelta(seconds=seconds))
        assert policy.due(0.0, NOW) == 4.0
