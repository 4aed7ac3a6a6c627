"""The duty of claiming: when it claims, how many jobs, and what it sends to the holder."""

from pathlib import Path

import pytest
from unstarted import Unstarted

from contract.grounds import SteppedClock
from queuectl import config
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent.claim import ClaimJobs
from queuectl.worker.agent.recording import RecordResults
from service.scenes import get, put


@pytest.fixture
def empty(unstarted: Unstarted) -> Unstarted:
    """An agent that has found nothing to do."""
    unstarted.run(ClaimJobs)
    return unstarted


class TestDue:
    def test_the_first_claim_is_due_at_once(self, unstarted: Unstarted) -> None:
        assert unstarted.is_due(ClaimJobs)

    def test_after_an_empty_claim_the_next_is_due_after_a_tick(self, empty: Unstarted) -> None:
        tick = empty.context.settings.tick_interval_ms / 1000
        assert empty.duty(ClaimJobs).due(empty.now) == empty.now + tick

    def test_after_a_full_claim_the_next_is_due_at_once(self, unstarted: Unstarted) -> None:
        for job in unstarted.claims("a", "b", "c"):
            unstarted.ends(job, seconds=1.0)
        assert unstarted.is_due(ClaimJobs)

    def test_a_recorded_result_makes_a_claim_due_at_once(self, unstarted: Unstarted) -> None:
        [job] = unstarted.claims("a")
        assert not unstarted.is_due(ClaimJobs)
        unstarted.ends(job, seconds=1.0)
        unstarted.run(RecordResults)
        assert unstarted.is_due(ClaimJobs)

    def test_a_due_retry_of_this_worker_makes_a_claim_due(self, unstarted: Unstarted) -> None:
        unstarted.context.settings = config.resolve({}, {}, {"tick_interval_ms": "60000"}, {})
        [job] = unstarted.claims("a")
        unstarted.ends(job, exit_code=1, seconds=1.0)
        unstarted.run(RecordResults)
        unstarted.run(ClaimJobs)
        assert unstarted.duty(ClaimJobs).due(unstarted.now) == unstarted.now + 2.0

    def test_no_claim_is_due_while_all_slots_are_taken(self, unstarted: Unstarted) -> None:
        unstarted.claims("a", "b")
        assert not unstarted.is_due(ClaimJobs)
        unstarted.now += 3600
        assert not unstarted.is_due(ClaimJobs)

    def test_claiming_ahead_is_never_due_but_runs_in_every_round(self, unstarted: Unstarted) -> None:
        """The slots are full of very short jobs and the store has no more jobs: the next result wakes the loop."""
        unstarted.duty(ClaimJobs)._policy.record_run_time(0.002)
        unstarted.claims("a", "b", "c")
        assert unstarted.duty(ClaimJobs).due(unstarted.now) == float("inf")
        unstarted.now += unstarted.context.settings.tick_interval_ms / 1000
        assert unstarted.is_due(ClaimJobs)

    @pytest.mark.parametrize("kind", ["drain", "stop"])
    def test_no_claim_is_due_when_the_worker_drains_or_stops(self, empty: Unstarted, kind: str) -> None:
        empty.hears(kind)
        assert empty.duty(ClaimJobs).due(empty.now) == float("inf")

    def test_no_claim_is_due_before_the_circuit_breaker_closes(self, unstarted: Unstarted) -> None:
        [job] = unstarted.claims("a")
        unstarted.hears("trouble", attempt_id=job.attempt_id, error="no processes", errno=11)
        unstarted.run(RecordResults)
        unstarted.duty(ClaimJobs)._policy.dirty = True
        assert unstarted.duty(ClaimJobs).due(unstarted.now) == unstarted.now + 1.0


def test_a_claimed_job_is_sent_to_the_holder(unstarted: Unstarted) -> None:
    [job] = unstarted.claims("a")
    [start] = unstarted.connection.of("start")
    assert (start["job_id"], start["attempt_id"]) == ("a", job.attempt_id)
    lease = unstarted.context.lease_seconds
    assert unstarted.now < start["deadline"] < unstarted.now + lease


def test_the_deadline_is_counted_from_before_the_claim_request(
    unstarted: Unstarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = unstarted.store.claim

    def slow(*args: object, **options: object) -> object:
        unstarted.now += 10
        return really(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(unstarted.store, "claim", slow)
    asked = unstarted.now
    unstarted.claims("a")
    [start] = unstarted.connection.of("start")
    assert start["deadline"] < asked + unstarted.context.lease_seconds


def test_no_more_than_the_free_slots_are_claimed(unstarted: Unstarted) -> None:
    unstarted.claims("a", "b", "c")
    assert sorted(claim.job.id for claim in unstarted.context.claims) == ["a", "b"]
    assert get(unstarted.store, "c").state == "pending"


def test_very_short_jobs_are_claimed_ahead(unstarted: Unstarted) -> None:
    unstarted.duty(ClaimJobs)._policy.record_run_time(0.002)
    unstarted.claims(*"abcde")
    assert len(unstarted.context.claims) == 5


class TestDrain:
    """`worker start --drain` ends the worker when no work is left."""

    @pytest.fixture
    def drains(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unstarted:
        return Unstarted(tmp_path, monkeypatch, MemoryStore(SteppedClock()), config={"drain": True})

    def test_the_worker_ends_when_no_work_is_left(self, drains: Unstarted) -> None:
        drains.run(ClaimJobs)
        assert drains.connection.of("drain") == [{"type": "drain", "done": True}]
        assert drains.context.phase == "draining"

    def test_the_worker_waits_for_a_retry(self, drains: Unstarted) -> None:
        put(drains.store, "a", state="failed")
        drains.run(ClaimJobs)
        assert drains.context.phase == "running"

    def test_the_worker_waits_for_its_running_commands(self, drains: Unstarted) -> None:
        drains.claims("a")
        drains.run(ClaimJobs)
        assert drains.context.phase == "running"

    def test_without_the_option_the_worker_keeps_running(self, unstarted: Unstarted) -> None:
        unstarted.run(ClaimJobs)
        assert unstarted.context.phase == "running"


def test_wakeups_are_wanted_while_a_slot_is_free_or_jobs_are_long(unstarted: Unstarted) -> None:
    claiming = unstarted.parts.claiming
    assert claiming.wants_wakeups
    unstarted.claims("a", "b")
    assert claiming.wants_wakeups  # an instruction must be felt, and a job cancelled
    claiming._policy.record_run_time(0.002)
    assert not claiming.wants_wakeups


def test_claims_are_told_unless_the_setting_says_otherwise(unstarted: Unstarted) -> None:
    unstarted.claims("a")
    assert [event.event for _, event in unstarted.store.read_events(None, 10).events] == ["job.started"]
    unstarted.context.settings = config.resolve({}, {}, {}, {"events": "ends"})
    unstarted.claims("b")
    assert [event.job for _, event in unstarted.store.read_events(None, 10).events] == ["a"]
