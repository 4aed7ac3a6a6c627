"""When a worker takes jobs and how many, and when it is not fit to take any."""

from datetime import timedelta

import pytest

from factories import NOW
from queuectl.worker.agent.claim_policy import (
    AHEAD_MOST,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    QUICK_FAILURE,
    SHORT,
    STREAK,
    TROUBLE_LONGEST,
    TROUBLE_PAUSE,
    CircuitBreaker,
    ClaimPolicy,
)


def fed(count: int, *seconds: float) -> ClaimPolicy:
    """The appetite of a worker whose commands took so long."""
    appetite = ClaimPolicy(count)
    for each in seconds:
        appetite.ran(each)
    return appetite


class TestAhead:
    def test_a_new_worker_claims_only_for_its_slots(self) -> None:
        assert fed(4).ahead == 0
        assert fed(4).room(held=0) == 4

    def test_the_first_short_job_begins_claiming_ahead(self) -> None:
        assert fed(1, 0.002).ahead > 0

    def test_one_long_job_ends_it_at_once(self) -> None:
        assert fed(1, *[0.002] * 100, SHORT * 2).ahead == 0

    def test_and_the_next_short_one_begins_it_again(self) -> None:
        assert fed(1, 0.002, 60.0, 0.002).ahead > 0

    @pytest.mark.parametrize("seconds", [0.0, 0.001, 0.005, SHORT])
    def test_what_is_claimed_ahead_is_done_in_a_moment(self, seconds: float) -> None:
        appetite = fed(2, *[seconds] * 50)
        assert appetite.ahead * seconds / 2 <= 0.05
        assert appetite.ahead <= AHEAD_MOST

    def test_it_grows_with_the_slots(self) -> None:
        assert fed(4, 0.01).ahead == 4 * fed(1, 0.01).ahead


class TestRoom:
    def test_free_slots_are_room(self) -> None:
        assert [fed(4).room(held) for held in range(6)] == [4, 3, 2, 1, 0, 0]

    def test_ahead_a_few_places_are_not_worth_a_transaction(self) -> None:
        appetite = fed(2, *[0.005] * 50)
        most = 2 + appetite.ahead
        assert appetite.room(most - 1) == 0
        assert appetite.room(most - appetite.ahead // 2) == appetite.ahead // 2
        assert appetite.room(0) == most


class TestWakes:
    def test_it_is_hungry_at_first(self) -> None:
        appetite = ClaimPolicy(1)
        assert appetite.due(5.0, NOW) == 5.0
        assert appetite.wakes(5.0, NOW, tick=1.0)

    def test_then_the_poll_floor_decides(self) -> None:
        appetite = ClaimPolicy(1)
        appetite.wakes(5.0, NOW, tick=1.0)
        appetite.hungry = False
        assert not appetite.wakes(5.9, NOW, tick=1.0)
        assert appetite.due(5.9, NOW) == 6.0
        assert appetite.wakes(6.0, NOW, tick=1.0)

    def test_a_retry_that_falls_due_wakes_once(self) -> None:
        appetite = ClaimPolicy(1)
        appetite.wakes(0.0, NOW, tick=60.0)
        appetite.hungry = False
        appetite.retry_at(NOW + timedelta(seconds=2))
        assert appetite.due(0.0, NOW) == 2.0
        assert not appetite.wakes(1.0, NOW + timedelta(seconds=1), tick=60.0)
        assert appetite.wakes(2.0, NOW + timedelta(seconds=2), tick=60.0)
        assert not appetite.wakes(2.1, NOW + timedelta(seconds=2.1), tick=60.0)

    def test_the_nearest_of_several_decides(self) -> None:
        appetite = ClaimPolicy(1)
        appetite.wakes(0.0, NOW, tick=60.0)
        appetite.hungry = False
        for seconds in (30, 4, 9):
            appetite.retry_at(NOW + timedelta(seconds=seconds))
        assert appetite.due(0.0, NOW) == 4.0


class TestFitness:
    def failing(self, jobs: int, seconds: float = 0.01) -> CircuitBreaker:
        fitness = CircuitBreaker()
        for n in range(jobs):
            fitness.ended(f"job-{n}", seconds, succeeded=False)
        return fitness

    def test_a_streak_of_quick_failures_is_suspect(self) -> None:
        assert not self.failing(STREAK - 1).suspect
        assert self.failing(STREAK).suspect

    def test_one_job_that_fails_again_and_again_is_not(self) -> None:
        fitness = CircuitBreaker()
        for _ in range(100):
            fitness.ended("same", 0.01, succeeded=False)
        assert not fitness.suspect

    def test_slow_failures_are_not(self) -> None:
        assert not self.failing(STREAK, QUICK_FAILURE * 2).suspect

    def test_what_never_started_failed_quickly(self) -> None:
        fitness = CircuitBreaker()
        for n in range(STREAK):
            fitness.ended(f"job-{n}", None, succeeded=False)
        assert fitness.suspect

    def test_a_success_ends_the_streak(self) -> None:
        fitness = self.failing(STREAK - 1)
        fitness.ended("good", 0.01, succeeded=True)
        fitness.ended("bad", 0.01, succeeded=False)
        assert not fitness.suspect

    def test_others_that_fare_no_better_acquit_it(self) -> None:
        fitness = self.failing(STREAK)
        fitness.acquit()
        assert not fitness.suspect
        assert fitness.fit(0.0)

    def test_it_rests_longer_each_time_up_to_a_limit(self) -> None:
        fitness = CircuitBreaker()
        pauses = [fitness.pause(0.0) for _ in range(7)]
        assert pauses == [FIRST_PAUSE, 60.0, 120.0, 240.0, 480.0, LONGEST_PAUSE, LONGEST_PAUSE]

    def test_it_is_unfit_until_the_pause_is_over(self) -> None:
        fitness = self.failing(STREAK)
        fitness.pause(100.0)
        assert not fitness.fit(100.0 + FIRST_PAUSE - 0.1)
        assert fitness.fit(100.0 + FIRST_PAUSE)
        assert not fitness.suspect

    def test_a_success_makes_the_next_pause_a_first_one(self) -> None:
        fitness = CircuitBreaker()
        fitness.pause(0.0)
        fitness.ended("slow failure", 10.0, succeeded=False)
        assert fitness.pause(0.0) == 60.0
        fitness.ended("good", 0.01, succeeded=True)
        assert fitness.pause(0.0) == FIRST_PAUSE

    def test_trouble_of_the_host_pauses_shortly_then_longer(self) -> None:
        fitness = CircuitBreaker()
        assert [fitness.trouble(0.0) for _ in range(7)] == [
            TROUBLE_PAUSE,
            2,
            4,
            8,
            16,
            TROUBLE_LONGEST,
            TROUBLE_LONGEST,
        ]
        assert not fitness.fit(TROUBLE_LONGEST - 0.1)
        fitness.ended("a", 0.01, succeeded=False)
        assert fitness.trouble(0.0) == TROUBLE_PAUSE
