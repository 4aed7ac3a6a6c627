"""The circuit breaker: when a worker stops claiming because of its own host, and for how long."""

from typing import Any

import pytest
from unstarted import Unstarted

from queuectl.worker.agent.circuit_breaker import (
    FIRST_PAUSE,
    HOST_FAULT_LONGEST,
    HOST_FAULT_PAUSE,
    LONGEST_PAUSE,
    QUICK_FAILURE,
    STREAK,
    CircuitBreaker,
    FailureStreak,
)
from queuectl.worker.agent.claim import ClaimJobs
from queuectl.worker.agent.recording import RecordResults
from service.scenes import end, put, take


class TestCircuitBreaker:
    def failing(self, jobs: int, seconds: float = 0.01) -> CircuitBreaker:
        breaker = CircuitBreaker()
        for n in range(jobs):
            breaker.record(f"job-{n}", seconds, succeeded=False)
        return breaker

    def test_a_streak_of_quick_failures_trips_the_breaker(self) -> None:
        assert not self.failing(STREAK - 1).tripped
        assert self.failing(STREAK).tripped

    def test_repeated_failures_of_one_job_are_not_a_streak(self) -> None:
        breaker = CircuitBreaker()
        for _ in range(100):
            breaker.record("same", 0.01, succeeded=False)
        assert not breaker.tripped

    def test_slow_failures_are_not_a_streak(self) -> None:
        assert not self.failing(STREAK, QUICK_FAILURE * 2).tripped

    def test_an_attempt_that_never_started_is_a_quick_failure(self) -> None:
        breaker = CircuitBreaker()
        for n in range(STREAK):
            breaker.record(f"job-{n}", None, succeeded=False)
        assert breaker.tripped

    def test_a_success_ends_the_streak(self) -> None:
        breaker = self.failing(STREAK - 1)
        breaker.record("good", 0.01, succeeded=True)
        breaker.record("bad", 0.01, succeeded=False)
        assert not breaker.tripped

    def test_a_reset_ends_the_streak_without_a_pause(self) -> None:
        breaker = self.failing(STREAK)
        breaker.reset()
        assert not breaker.tripped
        assert breaker.is_closed(0.0)

    def test_each_pause_is_longer_than_the_last_up_to_a_limit(self) -> None:
        breaker = CircuitBreaker()
        pauses = [breaker.open(0.0, "why") for _ in range(7)]
        assert pauses == [FIRST_PAUSE, 60.0, 120.0, 240.0, 480.0, LONGEST_PAUSE, LONGEST_PAUSE]

    def test_the_breaker_is_open_until_the_pause_is_over(self) -> None:
        breaker = self.failing(STREAK)
        breaker.open(100.0, "why")
        assert not breaker.is_closed(100.0 + FIRST_PAUSE - 0.1)
        assert breaker.is_closed(100.0 + FIRST_PAUSE)
        assert not breaker.tripped

    def test_after_a_success_the_next_pause_is_short_again(self) -> None:
        breaker = CircuitBreaker()
        breaker.open(0.0, "why")
        breaker.record("slow failure", 10.0, succeeded=False)
        assert breaker.open(0.0, "why") == 60.0
        breaker.record("good", 0.01, succeeded=True)
        assert breaker.open(0.0, "why") == FIRST_PAUSE

    def test_pauses_after_faults_of_the_host_start_short_and_grow(self) -> None:
        breaker = CircuitBreaker()
        assert [breaker.open_for_host_fault(0.0, "why") for _ in range(7)] == [
            HOST_FAULT_PAUSE,
            2,
            4,
            8,
            16,
            HOST_FAULT_LONGEST,
            HOST_FAULT_LONGEST,
        ]
        assert not breaker.is_closed(HOST_FAULT_LONGEST - 0.1)
        breaker.record("a", 0.01, succeeded=False)
        assert breaker.open_for_host_fault(0.0, "why") == HOST_FAULT_PAUSE


class TestFailureStreak:
    """The duty `FailureStreak` asks whether other workers succeed."""

    @pytest.fixture
    def failing(self, unstarted: Unstarted) -> Unstarted:
        """Eight jobs have failed at once."""
        for n in range(STREAK):
            for job in unstarted.claims(f"bad{n}"):
                unstarted.ends(job, exit_code=1, seconds=0.01)
            unstarted.run(RecordResults)
        unstarted.said()
        return unstarted

    def test_the_duty_is_due_only_after_a_streak(self, unstarted: Unstarted) -> None:
        assert not unstarted.is_due(FailureStreak)

    def test_a_worker_that_fails_while_others_succeed_pauses(self, failing: Unstarted) -> None:
        put(failing.store, "good")
        take(failing.store, "good", "other")
        end(failing.store, "good")
        assert failing.is_due(FailureStreak)
        failing.run(FailureStreak)
        assert not failing.is_due(FailureStreak)
        assert failing.said() == [
            "paused    its jobs failed within milliseconds while others succeed; resting for 30 s"
        ]
        put(failing.store, "next")
        assert failing.duty(ClaimJobs).due(failing.now) == failing.now + FIRST_PAUSE

    def test_a_worker_does_not_pause_if_no_other_worker_succeeds(self, failing: Unstarted) -> None:
        failing.run(FailureStreak)
        assert not failing.is_due(FailureStreak)
        assert failing.said() == []
        assert failing.is_due(ClaimJobs)

    def test_the_worker_does_not_pause_while_the_archive_cannot_be_reached(
        self, failing: Unstarted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def find(*_: Any) -> Any:
            raise AssertionError("the archive is away")

        monkeypatch.setattr(failing.store, "background_fault", lambda: "the archive is away")
        monkeypatch.setattr(failing.store, "find", find)
        failing.run(FailureStreak)
        assert failing.said() == []
